"""Style kernels: mapping network, truncation and affine layers, for batches of latents.

All are products of a matrix and one vector per latent. Sums are fp32, and the result of a latent does not depend on the
other latents or their number.

The *latent table* describes the latents of a batch. Their numbers, z or w, are in one array of values.
"""

import math

import triton
import triton.language as tl

from model.config import EPSILON

LATENT_FIELDS = 7
"""int64 fields of a latent: 0 index of its first value; 1 class; 2 distance between the values of two layers, 0 if all
layers have the same w, −1 if the values are z; 3 address for the refinement's modulated weights; 4 number of truncated
layers; 5 bits of ψ as fp32; 6 address of w+ [num_ws, w_dim], if it is already on the device, else 0."""

_LATENT_FIELDS = tl.constexpr(LATENT_FIELDS)
_EPSILON = tl.constexpr(EPSILON)
_SQRT2 = tl.constexpr(math.sqrt(2.0))


@triton.jit(do_not_specialize=["latents"])
def mapping_kernel(
    latents_ptr,
    values_ptr,
    weights_ptr,
    biases_ptr,
    x_ptr,
    y_ptr,
    latents,
    inputs,
    outputs,
    FIRST: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A layer of the mapping network (model.generator.MappingNetwork), [S, inputs] → [S, outputs].

    Program i: latent i mod S and ROWS outputs.

    Args:
        latents_ptr: int64 [S, LATENT_FIELDS], latent table.
        values_ptr: fp32, values of the latents. The first layer reads z from it and normalises z.
        weights_ptr: fp32 [outputs, inputs].
        biases_ptr: fp32 [outputs]; of the first layer [classes, outputs], with the class embedding folded in.
        x_ptr: fp32 [S, inputs], output of the layer before. Unused by the first layer.
        y_ptr: fp32 [S, outputs], output. Meaningless for latents that are given as w.
        latents: S.
        inputs, outputs: size of the layer.
        FIRST: this is the first layer.
        ROWS: outputs per program.
        BLOCK: power of two that is at least inputs.
    """
    n = tl.program_id(0) % latents
    output = tl.program_id(0) // latents * ROWS + tl.arange(0, ROWS)
    mask = output < outputs
    k = tl.arange(0, BLOCK)
    if FIRST:
        latent = latents_ptr + n * _LATENT_FIELDS
        is_z = tl.load(latent + 2) < 0
        x = tl.load(values_ptr + tl.load(latent) + k, mask=(k < inputs) & is_z, other=0.0)
        x *= tl.rsqrt(tl.sum(x * x, axis=0) / inputs + _EPSILON)
        biases_ptr += tl.load(latent + 1) * outputs
    else:
        x = tl.load(x_ptr + n * inputs + k, mask=k < inputs, other=0.0)
    weight_mask = mask[:, None] & (k < inputs)[None, :]
    weight = tl.load(weights_ptr + output[:, None] * inputs + k[None, :], mask=weight_mask, other=0.0)  # [ROWS, BLOCK]
    z = tl.sum(weight * x[None, :], axis=1) + tl.load(biases_ptr + output, mask=mask, other=0.0)
    tl.store(y_ptr + n * outputs + output, tl.where(z < 0, z * 0.2, z) * _SQRT2, mask=mask)


@triton.jit(do_not_specialize=["latents"])
def affine_kernel(
    latents_ptr,
    values_ptr,
    mapped_ptr,
    average_ptr,
    weights_ptr,
    biases_ptr,
    sources_ptr,
    vectors_ptr,
    latents,
    size,
    inputs,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Truncation and the affine layers: style vectors [S, size]. Program i: latent i mod S and ROWS elements.

    Args:
        latents_ptr, values_ptr: as of :func:`mapping_kernel`.
        mapped_ptr: fp32 [S, inputs], w of the latents that are given as z.
        average_ptr: fp32 [inputs], mean w.
        weights_ptr, biases_ptr: fp32 [size, inputs] and [size].
        sources_ptr: int32 [size], layer whose w each element is computed from.
        vectors_ptr: fp32 [S, size], output.
        latents, size: S, and the size of a style vector.
        inputs: w_dim.
        ROWS: elements per program.
        BLOCK: power of two that is at least inputs.
    """
    n = tl.program_id(0) % latents
    element = tl.program_id(0) // latents * ROWS + tl.arange(0, ROWS)
    row_mask = element < size
    k = tl.arange(0, BLOCK)[None, :]
    mask = row_mask[:, None] & (k < inputs)
    source = tl.load(sources_ptr + element, mask=row_mask, other=0)[:, None]
    latent = latents_ptr + n * _LATENT_FIELDS
    distance = tl.load(latent + 2)
    address = tl.load(latent + 6)
    if address == 0:
        address = values_ptr.to(tl.int64) + tl.load(latent) * 4
    w_ptr = address.to(tl.pointer_type(tl.float32))
    given = tl.load(w_ptr + source * distance + k, mask=mask & (distance >= 0), other=0.0)  # [ROWS, BLOCK]
    mapped = tl.load(mapped_ptr + n * inputs + k, mask=k < inputs, other=0.0)
    average = tl.load(average_ptr + k, mask=k < inputs, other=0.0)
    psi = tl.load(latent + 5).to(tl.int32).to(tl.float32, bitcast=True)
    w = tl.where(distance < 0, mapped, given)
    w = tl.where(source < tl.load(latent + 4), average + psi * (w - average), w)
    weight = tl.load(weights_ptr + element.to(tl.int64)[:, None] * inputs + k, mask=mask, other=0.0)
    style = tl.sum(weight * w, axis=1) + tl.load(biases_ptr + element, mask=row_mask, other=0.0)
    tl.store(vectors_ptr + n * size + element, style, mask=row_mask)
