"""Per-pixel layers of the GPU kernels: decoders and refinement. Their activations stay in registers.

A value is one fp16 number (PARTS = 1) or, near fp32, the sum of two (PARTS = 2): a high part and a low part that holds
the rounding error of the first. Three of the four products of two such sums are significant, so a layer costs three
times as much. Products accumulate in fp32.

Leaky ReLU with its gain is lrelu(z)·√2 = 0.4·√2·(1.5·z + |z|). The kernels compute 1.5·z + |z|, one fused multiply-add
for two fp16 numbers, and the factor GAIN is folded into the weights of the next layer. Activations are therefore stored
divided by GAIN.

``kernels/gpu/packing.py`` packs weights and biases in the order in which they are read here.

Arguments of the same name mean the same in all functions:
    weights_ptr, bias_ptr …: pointers to the first number of a layer.
    low_part: distance in numbers from a weight to its low part. Unused if PARTS is 1.
    features: [M, 32], one row per pixel, fp16, or fp32 if PARTS is 2.
    PARTS: fp16 parts of a value, 1 or 2.
"""

import math

import triton
import triton.language as tl

from model.config import CLAMP

GAIN = 0.4 * math.sqrt(2.0)
"""Factor between 1.5·z + |z| and a leaky ReLU of slope 0.2 and gain √2."""

COLOURS = 16
"""Outputs of a layer that makes colours: three are used, but Triton's wgmma needs at least 16."""

_COLOURS = tl.constexpr(COLOURS)
_CLAMP = tl.constexpr(CLAMP)
_CLAMP_OVER_GAIN = tl.constexpr(CLAMP / GAIN)


@triton.jit
def load_weight(weights_ptr, low_part, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr):
    """The parts of a weight stored as [OUTPUTS, INPUTS], each as [INPUTS, OUTPUTS].

    Loaded before a loop over pixels, they stay in shared memory.
    """
    pointers = weights_ptr + tl.arange(0, OUTPUTS)[None, :] * INPUTS + tl.arange(0, INPUTS)[:, None]
    high = tl.load(pointers)  # [INPUTS, OUTPUTS]
    if PARTS == 2:
        return high, tl.load(pointers + low_part)
    else:
        return high, high


@triton.jit
def _load_bias(bias_ptr, OUTPUTS: tl.constexpr):
    """A bias as [1, OUTPUTS]. It is stored lane by lane, so that each lane of a tensor core needs one wide load."""
    bias = tl.reshape(tl.load(bias_ptr + tl.arange(0, OUTPUTS)), [4, OUTPUTS // 8, 2])  # [q, j, e]
    return tl.reshape(tl.permute(bias, (1, 0, 2)), [OUTPUTS])[None, :]  # [1, 8·j + 2·q + e]


@triton.jit
def split(value, PARTS: tl.constexpr):
    """The parts of a value: (high, low), or (high, high) if PARTS is 1."""
    high = value.to(tl.float16)
    if PARTS == 2:
        return high, (value - high.to(tl.float32)).to(tl.float16)
    else:
        return high, high


@triton.jit
def store_parts(pointers, value, low_part, mask, PARTS: tl.constexpr):
    """Store the high part of a value and, if PARTS is 2, its low part ``low_part`` numbers further."""
    high, low = split(value, PARTS)
    tl.store(pointers, high, mask=mask)
    if PARTS == 2:
        tl.store(pointers + low_part, low, mask=mask)


@triton.jit
def multiply(x, weight, PARTS: tl.constexpr):
    """The parts of x [M, INPUTS] times the parts of a weight [INPUTS, OUTPUTS]: fp32 [M, OUTPUTS]."""
    if PARTS == 2:
        # The small products first, while the sum is small.
        return tl.dot(x[0], weight[0], tl.dot(x[0], weight[1], tl.dot(x[1], weight[0])))
    else:
        return tl.dot(x[0], weight[0])


@triton.jit
def clamp(x, limit):
    """x between −limit and limit. NaN stays NaN."""
    low = tl.maximum(x, -limit, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(low, limit, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _activate(acc, bias):
    """Bias and leaky ReLU of acc [M, OUTPUTS], divided by GAIN, in the bias's type."""
    z = acc.to(bias.dtype) + bias
    return z * 1.5 + tl.abs(z)


@triton.jit
def _fully_connected(x, weight, bias_ptr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr):
    """A layer of a decoder: parts of x [M, INPUTS] → parts of [M, OUTPUTS]."""
    return split(_activate(multiply(x, weight, PARTS), _load_bias(bias_ptr, OUTPUTS)), PARTS)


@triton.jit
def _modulated(x, weight, bias_ptr, OUTPUTS: tl.constexpr, PARTS: tl.constexpr):
    """A layer of the refinement, with the clamp of modulated layers: parts of x [M, INPUTS] → parts of [M, OUTPUTS]."""
    y = _activate(multiply(x, weight, PARTS), _load_bias(bias_ptr, OUTPUTS))
    limit = tl.full([1, 1], _CLAMP_OVER_GAIN, y.dtype)  # a Python number would convert fp16 to fp32
    return split(clamp(y, limit), PARTS)


@triton.jit
def load_decoder(weights_ptr, low_part, PARTS: tl.constexpr):
    """The four weights of one decoder, 32 → 64 → 128 → 64 → 32."""
    first = load_weight(weights_ptr, low_part, 32, 64, PARTS)
    weights_ptr += 32 * 64
    second = load_weight(weights_ptr, low_part, 64, 128, PARTS)
    weights_ptr += 64 * 128
    third = load_weight(weights_ptr, low_part, 128, 64, PARTS)
    weights_ptr += 128 * 64
    return first, second, third, load_weight(weights_ptr, low_part, 64, 32, PARTS)


@triton.jit
def decode(features, weights, biases_ptr, PARTS: tl.constexpr):
    """One decoder (model.generator.Decoder): features [M, 32] → [M, 32].

    Args:
        weights: result of :func:`load_decoder`.
        biases_ptr: biases of the four layers.
    """
    x = _fully_connected(split(features, PARTS), weights[0], biases_ptr, 64, PARTS)  # [M, 64]
    x = _fully_connected(x, weights[1], biases_ptr + 64, 128, PARTS)  # [M, 128]
    x = _fully_connected(x, weights[2], biases_ptr + 64 + 128, 64, PARTS)  # [M, 64]
    return _activate(multiply(x, weights[3], PARTS), _load_bias(biases_ptr + 64 + 128 + 64, 32))  # [M, 32]


@triton.jit
def load_refinement(weights_ptr, low_part, PARTS: tl.constexpr):
    """The modulated weights of one style's refinement: 32 → 128 → 128, ToRGB, 128 → 64 → 64, ToRGB."""
    first = load_weight(weights_ptr, low_part, 32, 128, PARTS)
    weights_ptr += 32 * 128
    second = load_weight(weights_ptr, low_part, 128, 128, PARTS)
    weights_ptr += 128 * 128
    first_to_rgb = load_weight(weights_ptr, low_part, 128, _COLOURS, PARTS)
    weights_ptr += 128 * _COLOURS
    third = load_weight(weights_ptr, low_part, 128, 64, PARTS)
    weights_ptr += 128 * 64
    fourth = load_weight(weights_ptr, low_part, 64, 64, PARTS)
    weights_ptr += 64 * 64
    return first, second, first_to_rgb, third, fourth, load_weight(weights_ptr, low_part, 64, _COLOURS, PARTS)


@triton.jit
def refine(features, to_rgb, weights, biases_ptr, colour_biases_ptr, PARTS: tl.constexpr):
    """Refinement (model.generator.SynthesisNetwork.refine): features [M, 32] → colours [M, 16] in fp32, three used.

    Args:
        to_rgb: parts of the first layer to colours, [32, 16].
        weights: result of :func:`load_refinement`.
        biases_ptr: biases of the four modulated layers.
        colour_biases_ptr: fp32 [3, 16], biases of to_rgb and of both ToRGB.
    """
    channel = tl.arange(0, _COLOURS)
    x = split(features, PARTS)
    rgb = multiply(x, to_rgb, PARTS) + tl.load(colour_biases_ptr + channel)[None, :]  # [M, 16]
    x = _modulated(x, weights[0], biases_ptr, 128, PARTS)  # [M, 128]
    x = _modulated(x, weights[1], biases_ptr + 128, 128, PARTS)  # [M, 128]
    addition = multiply(x, weights[2], PARTS) + tl.load(colour_biases_ptr + _COLOURS + channel)[None, :]  # [M, 16]
    rgb += clamp(addition, _CLAMP)
    x = _modulated(x, weights[3], biases_ptr + 256, 64, PARTS)  # [M, 64]
    x = _modulated(x, weights[4], biases_ptr + 256 + 64, 64, PARTS)  # [M, 64]
    addition = multiply(x, weights[5], PARTS) + tl.load(colour_biases_ptr + 2 * _COLOURS + channel)[None, :]  # [M, 16]
    return rgb + clamp(addition, _CLAMP)
