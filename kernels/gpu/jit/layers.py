"""Per-pixel layers for GPU kernels: decoders and refinement, whose activations never leave the registers.

A value is one fp16 number (PARTS = 1) or, near fp32, the sum of two (PARTS = 2): a high part and the low part that it
left over. Of the four products of two such sums three matter, so a layer costs three times as much. Sums are fp32.

Leaky ReLU with its gain is lrelu(z)·√2 = 0.4·√2·(1.5·z + |z|). Kernels compute 1.5·z + |z|, one fused multiply-add for
two fp16 numbers; the factor GAIN waits in the weights that read it. Activations are hence held divided by GAIN.

``kernels/packing.py`` lays out weights and biases as they are read here.
"""

import math

import triton
import triton.language as tl

from model.generator import CLAMP

GAIN = 0.4 * math.sqrt(2.0)
"""What 1.5·z + |z| lacks of a leaky ReLU of slope 0.2 and gain √2."""

COLOURS = 16
"""Outputs of a layer that makes colours: three are used, but 16 are the fewest that wgmma takes from Triton."""

_COLOURS = tl.constexpr(COLOURS)
_CLAMP = tl.constexpr(CLAMP)
_HELD_CLAMP = tl.constexpr(CLAMP / GAIN)


@triton.jit
def load_weight(pointer, low_part, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr):
    """The parts of a weight stored as [OUTPUTS, INPUTS], each as [INPUTS, OUTPUTS]; the low ones ``low_part`` further.

    Loaded before a loop over pixels, they stay in shared memory.
    """
    pointers = pointer + tl.arange(0, OUTPUTS)[None, :] * INPUTS + tl.arange(0, INPUTS)[:, None]
    high = tl.load(pointers)
    if PARTS == 2:
        return high, tl.load(pointers + low_part)
    else:
        return high, high


@triton.jit
def _load_bias(pointer, OUTPUTS: tl.constexpr):
    """[1, OUTPUTS] of a bias stored lane by lane: what a lane of a tensor core's result needs is one wide load."""
    bias = tl.reshape(tl.load(pointer + tl.arange(0, OUTPUTS)), [4, OUTPUTS // 8, 2])
    return tl.reshape(tl.permute(bias, (1, 0, 2)), [OUTPUTS])[None, :]


@triton.jit
def split(value, PARTS: tl.constexpr):
    """The parts of a value: (high, low), or (high, high) where there is but one."""
    high = value.to(tl.float16)
    if PARTS == 2:
        return high, (value - high.to(tl.float32)).to(tl.float16)
    else:
        return high, high


@triton.jit
def multiply(x, weight, PARTS: tl.constexpr):
    """The parts of x [M, INPUTS] times those of a weight [INPUTS, OUTPUTS]: fp32 [M, OUTPUTS]."""
    if PARTS == 2:
        # The small products first, while the sum is small.
        return tl.dot(x[0], weight[0], tl.dot(x[0], weight[1], tl.dot(x[1], weight[0])))
    else:
        return tl.dot(x[0], weight[0])


@triton.jit
def clamp(x, limit):
    """x between −limit and limit; what is not a number stays so, to be seen."""
    low = tl.maximum(x, -limit, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(low, limit, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _activate(sums, bias):
    z = sums.to(bias.dtype) + bias
    return z * 1.5 + tl.abs(z)


@triton.jit
def _dense(x, weight, bias_ptr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr):
    """The parts of a decoder's next activation."""
    return split(_activate(multiply(x, weight, PARTS), _load_bias(bias_ptr, OUTPUTS)), PARTS)


@triton.jit
def _modulated(x, weight, bias_ptr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr):
    """The parts of the refinement's next activation, clamped as all modulated layers are."""
    y = _activate(multiply(x, weight, PARTS), _load_bias(bias_ptr, OUTPUTS))
    limit = tl.full([1, 1], _HELD_CLAMP, y.dtype)  # a Python number would make fp16 fp32
    return split(clamp(y, limit), PARTS)


@triton.jit
def load_decoder(pointer, low_part, PARTS: tl.constexpr):
    """The weights of one decoder, 32 → 64 → 128 → 64 → 32."""
    first = load_weight(pointer, low_part, 32, 64, PARTS)
    pointer += 32 * 64
    second = load_weight(pointer, low_part, 64, 128, PARTS)
    pointer += 64 * 128
    third = load_weight(pointer, low_part, 128, 64, PARTS)
    pointer += 128 * 64
    return first, second, third, load_weight(pointer, low_part, 64, 32, PARTS)


@triton.jit
def decode(features, weights, biases, PARTS: tl.constexpr):
    """features [M, 32] through a decoder (model.generator.Decoder): [M, 32]."""
    x = _dense(split(features, PARTS), weights[0], biases, 64, PARTS)
    x = _dense(x, weights[1], biases + 64, 128, PARTS)
    x = _dense(x, weights[2], biases + 64 + 128, 64, PARTS)
    return _activate(multiply(x, weights[3], PARTS), _load_bias(biases + 64 + 128 + 64, 32))


@triton.jit
def load_refinement(pointer, low_part, PARTS: tl.constexpr):
    """The modulated weights of one style's refinement: 32 → 128 → 128, ToRGB, 128 → 64 → 64, ToRGB."""
    first = load_weight(pointer, low_part, 32, 128, PARTS)
    pointer += 32 * 128
    second = load_weight(pointer, low_part, 128, 128, PARTS)
    pointer += 128 * 128
    first_to_rgb = load_weight(pointer, low_part, 128, _COLOURS, PARTS)
    pointer += 128 * _COLOURS
    third = load_weight(pointer, low_part, 128, 64, PARTS)
    pointer += 128 * 64
    fourth = load_weight(pointer, low_part, 64, 64, PARTS)
    pointer += 64 * 64
    return first, second, first_to_rgb, third, fourth, load_weight(pointer, low_part, 64, _COLOURS, PARTS)


@triton.jit
def refine(features, to_rgb, weights, biases, colour_biases, PARTS: tl.constexpr):
    """features [M, 32] → colours [M, 16] in fp32, three of which are used (model.generator.Synthesis.pixels)."""
    channel = tl.arange(0, _COLOURS)
    x = split(features, PARTS)
    rgb = multiply(x, to_rgb, PARTS) + tl.load(colour_biases + channel)[None, :]
    x = _modulated(x, weights[0], biases, 128, PARTS)
    x = _modulated(x, weights[1], biases + 128, 128, PARTS)
    addition = multiply(x, weights[2], PARTS) + tl.load(colour_biases + _COLOURS + channel)[None, :]
    rgb += clamp(addition, _CLAMP)
    x = _modulated(x, weights[3], biases + 256, 64, PARTS)
    x = _modulated(x, weights[4], biases + 256 + 64, 64, PARTS)
    addition = multiply(x, weights[5], PARTS) + tl.load(colour_biases + 2 * _COLOURS + channel)[None, :]
    return rgb + clamp(addition, _CLAMP)
