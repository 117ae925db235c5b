"""Line kernels: Fourier input, modulated 1×1 layers and ToLine, for batches of images with different styles.

Rows and columns of all images form one matrix [M, C] with M = positions · D, and each layer is one launch. The matrix
is divided into tiles of TILE rows. The *tile table* holds the style of each tile and the cache page for its lines.
The result of a row does not depend on the other rows or their number.

Numbers are fp16, or near fp32 as two fp16 parts (kernels/gpu/jit/layers.py). Activations are [parts, M, C].
"""

import math

import triton
import triton.language as tl

from kernels.gpu.jit.layers import GAIN, clamp, store_parts
from kernels.gpu.jit.styles import LATENT_FIELDS
from model.config import CLAMP, EPSILON, FEATURES

TILE = 128
"""Rows of the matrix that one program multiplies, all of one style."""

TILE_FIELDS = 3
"""int64 fields of a tile: index of its style, address of the page for its lines, its first row in the page."""

ROW_FIELDS = 5
"""int64 fields of one output of a modulated layer: offset of its weights, offset of the style of its inputs, offset of
its modulated weights, number of inputs, and whether it is demodulated."""

LINE_SCALE = math.sqrt(0.5 / GAIN)
"""√½ of model.generator.SynthesisNetwork.lines, and 1/√GAIN because products of lines are features divided by GAIN."""

GROUP_SIZE_M = 16
"""Tiles whose programs run side by side, so that they find the weights in the L2 cache."""

_TILE = tl.constexpr(TILE)
_TILE_FIELDS = tl.constexpr(TILE_FIELDS)
_ROW_FIELDS = tl.constexpr(ROW_FIELDS)
_LATENT_FIELDS = tl.constexpr(LATENT_FIELDS)
_FEATURES = tl.constexpr(FEATURES)
_CLAMP = tl.constexpr(CLAMP)
_EPSILON = tl.constexpr(EPSILON)
_GROUP_SIZE_M = tl.constexpr(GROUP_SIZE_M)
_SQRT2 = tl.constexpr(math.sqrt(2.0))
_TWO_PI = tl.constexpr(2 * math.pi)
_LINE_SCALE = tl.constexpr(LINE_SCALE)


@triton.jit
def modulate_kernel(
    weights_ptr,
    rows_ptr,
    gains_ptr,
    styles_ptr,
    output_ptr,
    latents_ptr,
    rows,
    style_size,
    output_size,
    low_part,
    ADDRESSED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
):
    """W_oi·s_i·gain_o, times d_o = 1/√(Σ_i (W_oi s_i)² + 1e-8) if demodulated. Program (j, n): ROWS rows, style n.

    Args:
        weights_ptr: fp32, W of all layers as [C_out, C_in].
        rows_ptr: int64 [rows, ROW_FIELDS], one entry per output of a layer.
        gains_ptr: fp32 [rows].
        styles_ptr: fp32 [S, style_size], style vectors.
        output_ptr: fp16 [S, PARTS, size], modulated weights. Unused if ADDRESSED.
        latents_ptr: int64 [S, LATENT_FIELDS], latent table (kernels/gpu/jit/styles.py). Unused unless ADDRESSED.
        rows: number of rows.
        style_size: distance from one style vector to the next.
        output_size: distance from one style's modulated weights to the next, PARTS·size.
        low_part: distance from a modulated weight to its low part, size.
        ADDRESSED: write each latent's weights, fp16 [PARTS, size], to the address in the latent table.
        ROWS: rows per program.
        BLOCK: power of two that is at least the inputs of the widest row.
        PARTS: fp16 parts of a value, 1 or 2.
    """
    index = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    row_mask = index < rows
    row = rows_ptr + index * _ROW_FIELDS
    inputs = tl.arange(0, BLOCK)[None, :]
    mask = inputs < tl.load(row + 3, mask=row_mask, other=0)[:, None]
    style = styles_ptr + tl.program_id(1).to(tl.int64) * style_size + tl.load(row + 1, mask=row_mask, other=0)
    weight = tl.load(weights_ptr + tl.load(row, mask=row_mask, other=0)[:, None] + inputs, mask=mask, other=0.0)
    weight *= tl.load(style[:, None] + inputs, mask=mask, other=0.0)  # [ROWS, BLOCK]
    demodulation = tl.rsqrt(tl.sum(weight * weight, axis=1) + _EPSILON)  # [ROWS]
    gain = tl.load(gains_ptr + index, mask=row_mask, other=0.0)
    gain = tl.where(tl.load(row + 4, mask=row_mask, other=0) != 0, gain * demodulation, gain)
    if ADDRESSED:
        output = tl.load(latents_ptr + tl.program_id(1) * _LATENT_FIELDS + 3).to(tl.pointer_type(tl.float16))
    else:
        output = output_ptr + tl.program_id(1).to(tl.int64) * output_size
    output += tl.load(row + 2, mask=row_mask, other=0)
    store_parts(output[:, None] + inputs, weight * gain[:, None], low_part, mask, PARTS)


@triton.jit
def _sine_and_cosine(cycles):
    """sin and cos of 2π·cycles within 1e-7, for 0 ≤ cycles ≤ 1.

    Taylor series within an eighth of a cycle of the nearest quarter. The sine of CUDA's library keeps a table for the
    reduction of very large arguments in local memory, which would count as spilled registers.
    """
    quarter = tl.floor(cycles * 4.0 + 0.5)
    x = (cycles - quarter * 0.25) * _TWO_PI  # exact before the product
    square = x * x
    sine = x * (1.0 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square / 362880))))
    cosine = 1.0 + square * (-0.5 + square * (1 / 24 + square * (-1 / 720 + square * (1 / 40320 - square / 3628800))))
    quadrant = quarter.to(tl.int32)
    odd, negative = quadrant % 2 == 1, quadrant % 4 >= 2
    first, second = tl.where(odd, cosine, sine), tl.where(odd, -sine, cosine)
    return tl.where(negative, -first, first), tl.where(negative, -second, second)


@triton.jit
def fourier_features_kernel(
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
    """Fourier features of positions (model.generator.FourierInput). Program (i, j): ROWS rows, BLOCK frequencies.

    Args:
        positions_ptr: fp64 [L], network coordinates.
        axes_ptr: int32 [L], ROWS or COLUMNS of model.generator.
        frequencies_ptr: fp32 [D, HALF].
        weights_ptr: fp32 [axis, D, 2·HALF], over √C.
        styles_ptr: fp32 [S, style_size], style vectors; each begins with the input's style [axis, D, 2·HALF].
        tiles_ptr: int64 [M / TILE, TILE_FIELDS], tile table.
        x_ptr: fp16 [PARTS, M, 2·HALF], output: HALF sines and HALF cosines per row.
        style_size: distance from one style vector to the next.
        low_part: distance from an output to its low part, M·2·HALF.
        THICKNESS: D.
        HALF: C/2, number of frequencies per d.
        ROWS: rows per program, a divisor of TILE.
        BLOCK: frequencies per program.
        PARTS: fp16 parts of a value, 1 or 2.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    line, d = row // THICKNESS, row % THICKNESS
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = channel < HALF
    frequency = tl.load(frequencies_ptr + (d * HALF)[:, None] + channel, mask=mask, other=0.0)
    position = tl.load(positions_ptr + line)[:, None]
    cycles = frequency.to(tl.float64) * position  # float32 would blur the pixels of very large images
    sine, cosine = _sine_and_cosine((cycles - tl.floor(cycles)).to(tl.float32))  # [ROWS, BLOCK] each

    style = styles_ptr + tl.load(tiles_ptr + row // _TILE * _TILE_FIELDS) * style_size  # rows of a tile share it
    factor = ((tl.load(axes_ptr + line) * THICKNESS + d) * (2 * HALF))[:, None] + channel
    sine_factor = tl.load(weights_ptr + factor, mask=mask, other=0.0)
    sine_factor *= tl.load(style[:, None] + factor, mask=mask, other=0.0)
    cosine_factor = tl.load(weights_ptr + factor + HALF, mask=mask, other=0.0)
    cosine_factor *= tl.load(style[:, None] + factor + HALF, mask=mask, other=0.0)
    x = x_ptr + row.to(tl.int64)[:, None] * (2 * HALF) + channel
    store_parts(x, sine * sine_factor, low_part, mask, PARTS)
    store_parts(x + HALF, cosine * cosine_factor, low_part, mask, PARTS)


@triton.jit
def _multiply_tile(
    x,
    weights_ptr,
    low_parts,
    first_output,
    inputs,
    OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    """fp32 products [TILE, BLOCK_N] of rows of x and weights [OUTPUTS, inputs] from first_output.

    Args:
        x: pointers [TILE, 1] to the first number of each row.
        low_parts: x_low_part and weights_low_part; these and the other arguments are those of
            :func:`modulated_matmul_kernel`.
    """
    output = first_output + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    x += k[None, :]
    weights = weights_ptr + output[None, :] * inputs + k[:, None]
    acc = tl.zeros([_TILE, BLOCK_N], tl.float32)
    for start in range(0, inputs, BLOCK_K):
        k_mask = EVEN_K | (k < inputs - start)
        x_high = tl.load(x + start, mask=k_mask[None, :], other=0.0)  # [TILE, BLOCK_K]
        w_mask = (output < OUTPUTS)[None, :] & k_mask[:, None]
        w_high = tl.load(weights + start, mask=w_mask, other=0.0)  # [BLOCK_K, BLOCK_N]
        if PARTS == 2:
            acc = tl.dot(tl.load(x + low_parts[0] + start, mask=k_mask[None, :], other=0.0), w_high, acc)
            acc = tl.dot(x_high, tl.load(weights + low_parts[1] + start, mask=w_mask, other=0.0), acc)
        acc = tl.dot(x_high, w_high, acc)
    return acc


@triton.jit(do_not_specialize=["num_pid_m"])
def modulated_matmul_kernel(
    x_ptr,
    weights_ptr,
    biases_ptr,
    tiles_ptr,
    y_ptr,
    num_pid_m,
    inputs,
    weights_size,
    weights_low_part,
    x_low_part,
    y_low_part,
    OUTPUTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    """A modulated layer, [M, inputs] → [M, OUTPUTS]: product, bias, leaky ReLU of slope 0.2, gain √2, clamp to ±256.

    Args:
        x_ptr: fp16 [PARTS, M, inputs].
        weights_ptr: fp16, the layer's weights [OUTPUTS, inputs] under the first style.
        biases_ptr: fp32 [OUTPUTS].
        tiles_ptr: int64 [num_pid_m, TILE_FIELDS], tile table.
        y_ptr: fp16 [PARTS, M, OUTPUTS], output.
        num_pid_m: number of tiles.
        inputs: C_in.
        weights_size: distance from one style's weights to the next.
        weights_low_part, x_low_part, y_low_part: distances from a number to its low part.
        OUTPUTS: C_out.
        BLOCK_N: outputs per program.
        BLOCK_K: inputs per step.
        EVEN_K: inputs is a multiple of BLOCK_K.
        PARTS: fp16 parts of a value, 1 or 2.
    """
    num_pid_n = tl.cdiv(OUTPUTS, BLOCK_N)
    group_id = tl.program_id(0) // (_GROUP_SIZE_M * num_pid_n)
    pid_in_group = tl.program_id(0) % (_GROUP_SIZE_M * num_pid_n)
    group_size_m = tl.minimum(num_pid_m - group_id * _GROUP_SIZE_M, _GROUP_SIZE_M)
    pid_m = group_id * _GROUP_SIZE_M + pid_in_group % group_size_m
    first_output = pid_in_group // group_size_m * BLOCK_N

    weights = weights_ptr + tl.load(tiles_ptr + pid_m * _TILE_FIELDS) * weights_size
    row = (pid_m * _TILE + tl.arange(0, _TILE)).to(tl.int64)[:, None]
    x, low_parts = x_ptr + row * inputs, (x_low_part, weights_low_part)
    acc = _multiply_tile(x, weights, low_parts, first_output, inputs, OUTPUTS, BLOCK_N, BLOCK_K, EVEN_K, PARTS)
    output = first_output + tl.arange(0, BLOCK_N)
    mask = output < OUTPUTS
    z = acc + tl.load(biases_ptr + output, mask=mask, other=0.0)[None, :]
    y = clamp(tl.where(z < 0, z * 0.2, z) * _SQRT2, _CLAMP)
    pointers = y_ptr + row * OUTPUTS + output[None, :]  # [TILE, BLOCK_N]
    store_parts(pointers, y, y_low_part, mask[None, :], PARTS)


@triton.jit(do_not_specialize=["bundle"])
def to_lines_kernel(
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
    EVEN_K: tl.constexpr,
    PARTS: tl.constexpr,
):
    """ToLine, [M, inputs] → [M, 32]: product, bias, clamp, addition to the running bundle, copy to the pages.

    Args:
        x_ptr, weights_ptr, biases_ptr, tiles_ptr: as of :func:`modulated_matmul_kernel`, with 32 outputs.
        running_ptr: fp32 [M, 32], the running bundle, updated in place.
        bundle: index of the bundle in the pages [L, BUNDLES, D, PARTS, 32], which receives the running bundle times
            LINE_SCALE; if negative, nothing is written to pages.
        inputs, weights_size, weights_low_part, x_low_part: as of :func:`modulated_matmul_kernel`.
        BUNDLES, THICKNESS: number of bundles and D.
        FIRST: overwrite the running bundle instead of adding to it.
        BLOCK_K, EVEN_K, PARTS: as of :func:`modulated_matmul_kernel`.
    """
    tile = tl.program_id(0)
    weights = weights_ptr + tl.load(tiles_ptr + tile * _TILE_FIELDS) * weights_size
    channel, row = tl.arange(0, _FEATURES)[None, :], tl.arange(0, _TILE)[:, None]
    x, low_parts = x_ptr + (tile * _TILE + row).to(tl.int64) * inputs, (x_low_part, weights_low_part)
    acc = _multiply_tile(x, weights, low_parts, 0, inputs, _FEATURES, _FEATURES, BLOCK_K, EVEN_K, PARTS)  # [TILE, 32]
    addition = acc + tl.load(biases_ptr + channel)
    running = clamp(addition, _CLAMP)
    running_pointers = running_ptr + (tile * _TILE + row) * _FEATURES + channel
    if not FIRST:
        running += tl.load(running_pointers)
    tl.store(running_pointers, running)
    if bundle >= 0:
        page = tl.multiple_of(tl.load(tiles_ptr + tile * _TILE_FIELDS + 1).to(tl.pointer_type(tl.float16)), 16)
        page_row = tl.load(tiles_ptr + tile * _TILE_FIELDS + 2) + row
        line = ((page_row // THICKNESS * BUNDLES + bundle) * THICKNESS + page_row % THICKNESS) * (PARTS * _FEATURES)
        store_parts(page + line + channel, running * _LINE_SCALE, _FEATURES, channel < _FEATURES, PARTS)
