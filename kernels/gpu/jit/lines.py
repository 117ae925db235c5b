"""Lines on a GPU: Fourier input, modulated 1×1 layers and ToLine, for batches of pictures with their own styles.

Rows and columns of all pictures go through one launch a layer, as one matrix [M, C] with M = positions · D. It is cut
into tiles of TILE rows. The *tile table* names each tile's style, and the page of a cache that its lines go to.
How a row is computed does not depend on the other rows, nor on how many.

Numbers are fp16, or near fp32 as two fp16 parts (kernels/layers.py). Activations are [parts, M, C].
"""

import math

import triton
import triton.language as tl

from kernels.layers import GAIN, clamp
from model.config import FEATURES
from model.generator import CLAMP, EPSILON

TILE = 128
"""Rows of the matrix that one program multiplies, all of one style."""

TILE_FIELDS = 3
"""int64 numbers of one tile: index of its style, address of the page that its lines go to, its first row there."""

ROW_FIELDS = 5
"""int64 numbers of one output of a modulated layer: where its weights begin, where the style of its inputs, where its
modulated weights go, its number of inputs, and whether it is demodulated."""

LINE_SCALE = math.sqrt(0.5 / GAIN)
"""√½ of model.generator.Synthesis.lines; and products of lines shall be features over GAIN (kernels/layers.py)."""

GROUP = 16
"""Tiles of rows whose programs run side by side, so that they find the weights in the cache."""

_TILE = tl.constexpr(TILE)
_TILE_FIELDS = tl.constexpr(TILE_FIELDS)
_ROW_FIELDS = tl.constexpr(ROW_FIELDS)
_FEATURES = tl.constexpr(FEATURES)
_CLAMP = tl.constexpr(CLAMP)
_EPSILON = tl.constexpr(EPSILON)
_GROUP = tl.constexpr(GROUP)
_SQRT2 = tl.constexpr(math.sqrt(2.0))
_TWO_PI = tl.constexpr(2 * math.pi)
_LINE_SCALE = tl.constexpr(LINE_SCALE)


@triton.jit
def _store_parts(pointers, value, low_part, mask, PARTS: tl.constexpr):
    high = value.to(tl.float16)
    tl.store(pointers, high, mask=mask)
    if PARTS == 2:
        tl.store(pointers + low_part, (value - high.to(tl.float32)).to(tl.float16), mask=mask)


@triton.jit
def modulate(
    weights_ptr,
    rows_ptr,
    gains_ptr,
    styles_ptr,
    output_ptr,
    rows,
    style_size,
    output_size,
    low_part,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
):
    """W_oi·s_i·gain_o, times d_o = 1/√(Σ_i (W_oi s_i)² + 1e-8) where demodulated. Program (j, n): rows, style n."""
    index = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    exists = index < rows
    row = rows_ptr + index * _ROW_FIELDS
    inputs = tl.arange(0, BLOCK)[None, :]
    inside = inputs < tl.load(row + 3, mask=exists, other=0)[:, None]
    style = styles_ptr + tl.program_id(1).to(tl.int64) * style_size + tl.load(row + 1, mask=exists, other=0)
    weight = tl.load(weights_ptr + tl.load(row, mask=exists, other=0)[:, None] + inputs, mask=inside, other=0.0)
    weight *= tl.load(style[:, None] + inputs, mask=inside, other=0.0)
    demodulation = tl.rsqrt(tl.sum(weight * weight, axis=1) + _EPSILON)
    gain = tl.load(gains_ptr + index, mask=exists, other=0.0)
    gain = tl.where(tl.load(row + 4, mask=exists, other=0) != 0, gain * demodulation, gain)
    output = output_ptr + tl.program_id(1).to(tl.int64) * output_size + tl.load(row + 2, mask=exists, other=0)
    _store_parts(output[:, None] + inputs, weight * gain[:, None], low_part, inside, PARTS)


@triton.jit
def _sine_and_cosine(cycles):
    """sin and cos of 2π·cycles within 1e-7, for 0 ≤ cycles ≤ 1.

    Taylor series on an eighth of a cycle to either side of the nearest quarter. A library's sine would hold the table
    with which it reduces very large arguments in local memory.
    """
    quarter = tl.floor(cycles * 4.0 + 0.5)
    x = (cycles - quarter * 0.25) * _TWO_PI  # exact before the product
    square = x * x
    sine = x * (1.0 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square / 362880))))
    cosine = 1.0 + square * (-0.5 + square * (1 / 24 + square * (-1 / 720 + square * (1 / 40320 - square / 3628800))))
    turned = quarter.to(tl.int32)
    odd, negative = turned % 2 == 1, turned % 4 >= 2
    first, second = tl.where(odd, cosine, sine), tl.where(odd, -sine, cosine)
    return tl.where(negative, -first, first), tl.where(negative, -second, second)


@triton.jit
def draw_fourier_features(
    positions_ptr,
    axes_ptr,
    frequencies_ptr,
    weights_ptr,
    styles_ptr,
    tiles_ptr,
    x_ptr,
    style_size,
    low_part,
    THICKNESS: tl.constexpr,
    HALF: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
):
    """model.generator.FourierInput: x [M, 2·HALF]. Program (i, j) makes ROWS rows of BLOCK sines and as many cosines.

    Frequencies are [D, HALF]; weights over √C, and the style that begins each style vector, are [axis, D, 2·HALF].
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    line, d = row // THICKNESS, row % THICKNESS
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    inside = channel < HALF
    frequency = tl.load(frequencies_ptr + (d * HALF)[:, None] + channel, mask=inside, other=0.0)
    position = tl.load(positions_ptr + line)[:, None]
    cycles = frequency.to(tl.float64) * position  # float32 would blur the pixels of very large pictures
    sine, cosine = _sine_and_cosine((cycles - tl.floor(cycles)).to(tl.float32))

    style = styles_ptr + tl.load(tiles_ptr + row // _TILE * _TILE_FIELDS) * style_size  # rows of a tile share it
    factor = ((tl.load(axes_ptr + line) * THICKNESS + d) * (2 * HALF))[:, None] + channel
    sine_factor = tl.load(weights_ptr + factor, mask=inside, other=0.0)
    sine_factor *= tl.load(style[:, None] + factor, mask=inside, other=0.0)
    cosine_factor = tl.load(weights_ptr + factor + HALF, mask=inside, other=0.0)
    cosine_factor *= tl.load(style[:, None] + factor + HALF, mask=inside, other=0.0)
    x = x_ptr + row.to(tl.int64)[:, None] * (2 * HALF) + channel
    _store_parts(x, sine * sine_factor, low_part, inside, PARTS)
    _store_parts(x + HALF, cosine * cosine_factor, low_part, inside, PARTS)


@triton.jit
def _multiply_tile(
    x_ptr,
    weights_ptr,
    first_row,
    first_output,
    x_low_part,
    weights_low_part,
    inputs,
    OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Sums [TILE, BLOCK_N] in fp32 of a tile of x [M, inputs] and weights [OUTPUTS, inputs].

    EVEN: ``inputs`` is a multiple of BLOCK_K.
    """
    output = first_output + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    x = x_ptr + (first_row + tl.arange(0, _TILE)).to(tl.int64)[:, None] * inputs + k[None, :]
    weights = weights_ptr + output[None, :] * inputs + k[:, None]
    sums = tl.zeros([_TILE, BLOCK_N], tl.float32)
    for start in range(0, inputs, BLOCK_K):
        x_high = _load_block(x + start, (k < inputs - start)[None, :], EVEN)
        w_mask = (output < OUTPUTS)[None, :] & (EVEN | (k < inputs - start)[:, None])
        w_high = tl.load(weights + start, mask=w_mask, other=0.0)
        if PARTS == 2:
            sums = tl.dot(_load_block(x + x_low_part + start, (k < inputs - start)[None, :], EVEN), w_high, sums)
            sums = tl.dot(x_high, tl.load(weights + weights_low_part + start, mask=w_mask, other=0.0), sums)
        sums = tl.dot(x_high, w_high, sums)
    return sums


@triton.jit
def _load_block(pointers, mask, EVEN: tl.constexpr):
    if EVEN:
        return tl.load(pointers)
    else:
        return tl.load(pointers, mask=mask, other=0.0)


@triton.jit(do_not_specialize=["tiles"])
def multiply_modulated(
    x_ptr,
    weights_ptr,
    biases_ptr,
    tiles_ptr,
    y_ptr,
    tiles,
    inputs,
    weights_size,
    weights_low_part,
    x_low_part,
    y_low_part,
    OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
    PARTS: tl.constexpr,
):
    """A modulated layer, [M, inputs] → [M, OUTPUTS]: product, bias, leaky ReLU of slope 0.2, gain √2, clamp to ±256."""
    outputs_across = tl.cdiv(OUTPUTS, BLOCK_N)
    group = tl.program_id(0) // (_GROUP * outputs_across)
    within_group = tl.program_id(0) % (_GROUP * outputs_across)
    group_tiles = tl.minimum(tiles - group * _GROUP, _GROUP)
    tile = group * _GROUP + within_group % group_tiles
    first_output = within_group // group_tiles * BLOCK_N

    weights = weights_ptr + tl.load(tiles_ptr + tile * _TILE_FIELDS) * weights_size
    first_row = tile * _TILE
    sums = _multiply_tile(
        x_ptr,
        weights,
        first_row,
        first_output,
        x_low_part,
        weights_low_part,
        inputs,
        OUTPUTS,
        BLOCK_N,
        BLOCK_K,
        EVEN,
        PARTS,
    )
    output = first_output + tl.arange(0, BLOCK_N)
    inside = output < OUTPUTS
    z = sums + tl.load(biases_ptr + output, mask=inside, other=0.0)[None, :]
    y = clamp(tl.where(z < 0, z * 0.2, z) * _SQRT2, _CLAMP)
    pointers = y_ptr + (first_row + tl.arange(0, _TILE)).to(tl.int64)[:, None] * OUTPUTS + output[None, :]
    _store_parts(pointers, y, y_low_part, inside[None, :], PARTS)


@triton.jit(do_not_specialize=["bundle"])
def add_to_lines(
    x_ptr,
    weights_ptr,
    biases_ptr,
    tiles_ptr,
    running_ptr,
    bundle,
    inputs,
    weights_size,
    weights_low_part,
    x_low_part,
    BUNDLES: tl.constexpr,
    THICKNESS: tl.constexpr,
    FIRST: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
    PARTS: tl.constexpr,
):
    """ToLine on [M, inputs]: adds the clamped product and bias to the running bundle [M, 32], fp32, in place.

    FIRST: the running bundle begins here. The sum, times LINE_SCALE, becomes bundle ``bundle`` of a
    page of lines [L, BUNDLES, D, parts, 32], or, where that is negative, none.
    """
    tile = tl.program_id(0)
    weights = weights_ptr + tl.load(tiles_ptr + tile * _TILE_FIELDS) * weights_size
    sums = _multiply_tile(
        x_ptr,
        weights,
        tile * _TILE,
        0,
        x_low_part,
        weights_low_part,
        inputs,
        _FEATURES,
        _FEATURES,
        BLOCK_K,
        EVEN,
        PARTS,
    )
    channel, within = tl.arange(0, _FEATURES)[None, :], tl.arange(0, _TILE)[:, None]
    addition = sums + tl.load(biases_ptr + channel)
    running = clamp(addition, _CLAMP)
    running_pointers = running_ptr + (tile * _TILE + within) * _FEATURES + channel
    if not FIRST:
        running += tl.load(running_pointers)
    tl.store(running_pointers, running)
    if bundle >= 0:
        page = tl.multiple_of(tl.load(tiles_ptr + tile * _TILE_FIELDS + 1).to(tl.pointer_type(tl.float16)), 16)
        row = tl.load(tiles_ptr + tile * _TILE_FIELDS + 2) + within
        line = ((row // THICKNESS * BUNDLES + bundle) * THICKNESS + row % THICKNESS) * (PARTS * _FEATURES)
        _store_parts(page + line + channel, running * _LINE_SCALE, _FEATURES, channel < _FEATURES, PARTS)
