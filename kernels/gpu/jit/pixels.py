"""Pixel kernels: line products, decoders, colours, refinement and quantisation to 8 bits, in one or a few launches.

The weights of all decoders (287 KB for the paper's 512 network) do not fit the shared memory of one multiprocessor, so
they run in *phases*, one launch each. A program keeps the weights of its phase in shared memory and renders one tile
after another; activations stay in registers from the first layer to the last. Between two phases a pixel is 32 features
in a workspace, which stays in the L2 cache if a group of tasks is small.

A *task* is a rectangle of pixels whose lines, style and output may lie anywhere in memory. A launch takes any number.
"""

from itertools import pairwise

import triton
import triton.language as tl

from kernels.gpu.jit.layers import COLOURS, decode, load_decoder, load_refinement, load_weight, refine, store_parts
from kernels.gpu.jit.products import (
    line_pointers,
    line_pointers_between,
    line_product,
    load_value,
    to_channel_pairs,
    to_channels,
    to_columns,
)
from model.config import DECODER_WIDTHS, FEATURES

TASK_FIELDS = 10
"""int64 fields of a task: 0 address of its first row line, 1 of its first column line, 2 of the refinement's weights,
3 of its first output pixel, 4 row stride of the output in pixels, 5 height, 6 width, 7 index of its first tile in the
workspace; for interpolated lines 8 address of the first of four lines, 9 of the fractions."""

PROGRAM_FIELDS = 3
"""int32 fields of a program: index of its task, of its first tile in the task, and the step to its next tile."""

TILE_WIDTH = 16
"""Width of a tile in pixels. Its height is the number of warps."""

_FEATURES = tl.constexpr(FEATURES)
_COLOURS = tl.constexpr(COLOURS)
_TASK_FIELDS = tl.constexpr(TASK_FIELDS)
_PROGRAM_FIELDS = tl.constexpr(PROGRAM_FIELDS)
_TILE_WIDTH = tl.constexpr(TILE_WIDTH)
_DECODER_WEIGHTS = tl.constexpr(sum(a * b for a, b in pairwise(DECODER_WIDTHS)))
_DECODER_BIASES = tl.constexpr(sum(DECODER_WIDTHS[1:]))


@triton.jit
def pixels_kernel(
    tasks_ptr,
    programs_ptr,
    weights_ptr,
    biases_ptr,
    colour_biases_ptr,
    workspace_ptr,
    weights_low_part,
    refinement_low_part,
    BUNDLES: tl.constexpr,
    THICKNESS: tl.constexpr,
    DECODERS: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    START: tl.constexpr,
    HEAD: tl.constexpr,
    PARTS: tl.constexpr,
    INTERPOLATE: tl.constexpr,
    QUANTISE: tl.constexpr,
    WARPS: tl.constexpr,
):
    """One phase: decoders FIRST … LAST − 1 for the pixels of several tasks. A program renders tiles of one task.

    Args:
        tasks_ptr: int64 [tasks, TASK_FIELDS].
        programs_ptr: int32 [grid, PROGRAM_FIELDS].
        weights_ptr: fp16 [PARTS, size], all decoders and to_rgb (kernels.gpu.packing.PixelWeights).
        biases_ptr: fp16, or fp32 if PARTS is 2: all decoders, then the refinement.
        colour_biases_ptr: fp32 [3, 16].
        workspace_ptr: fp16 [tiles, 16·WARPS, PARTS, 32], features between two phases.
        weights_low_part, refinement_low_part: distances in numbers from a weight to its low part.
        BUNDLES, THICKNESS, DECODERS: of the network (model.config.GeneratorConfig).
        FIRST, LAST: range of the phase's decoders.
        START: the phase begins with the first line product, else with the workspace.
        HEAD: the phase ends with colours in the output, else with features in the workspace.
        PARTS: fp16 parts of a value, 1 or 2.
        INTERPOLATE: pixels lie between lines. Their task has the first of four, int32 [height, width, 2], and the
            fractions between the second and the third, fp32 [height, width, 2] (vertical, horizontal).
        QUANTISE: write colours as uint8, else as fp32. Unused without HEAD.
        WARPS: number of warps of the program.
    """
    program = programs_ptr + tl.program_id(0) * _PROGRAM_FIELDS
    task = tasks_ptr + tl.load(program) * _TASK_FIELDS
    first_tile, tile_step = tl.load(program + 1), tl.load(program + 2)
    rows_ptr = tl.multiple_of(tl.load(task).to(tl.pointer_type(tl.float16)), 16)
    columns_ptr = tl.multiple_of(tl.load(task + 1).to(tl.pointer_type(tl.float16)), 16)
    height, width = tl.load(task + 5).to(tl.int32), tl.load(task + 6).to(tl.int32)
    workspace_tile = tl.load(task + 7)

    decoders = ()
    for k in tl.static_range(FIRST, LAST):
        decoders += (load_decoder(weights_ptr + k * _DECODER_WEIGHTS, weights_low_part, PARTS),)  # type: ignore[assignment]
    if HEAD:
        to_rgb_ptr = weights_ptr + DECODERS * _DECODER_WEIGHTS
        to_rgb = load_weight(to_rgb_ptr, weights_low_part, _FEATURES, _COLOURS, PARTS)
        refinement_ptr = tl.multiple_of(tl.load(task + 2).to(tl.pointer_type(tl.float16)), 16)
        refinement = load_refinement(refinement_ptr, refinement_low_part, PARTS)

    tl.debug_barrier()  # for the weights; Triton would put it into the loop
    TILE: tl.constexpr = 16 * WARPS
    TILE_HEIGHT: tl.constexpr = TILE // _TILE_WIDTH
    pair = tl.arange(0, TILE // 2)  # an upper and a lower pixel
    num_tiles_x = tl.cdiv(width, _TILE_WIDTH)
    num_tiles = num_tiles_x * tl.cdiv(height, TILE_HEIGHT)
    # In the head with two parts, hoisted addresses of weights would occupy over 80 registers, and ptxas 13 would spill.
    for tile in tl.range(first_tile, num_tiles, tile_step, disable_licm=HEAD and PARTS == 2):
        top = tile // num_tiles_x * TILE_HEIGHT
        left = tile % num_tiles_x * _TILE_WIDTH
        # Pixels beyond the edge repeat those at the edge, and are not stored.
        x = tl.minimum(left + pair % _TILE_WIDTH, width - 1)
        y = top + 2 * (pair // _TILE_WIDTH)
        upper_y, lower_y = tl.minimum(y, height - 1), tl.minimum(y + 1, height - 1)
        if INTERPOLATE:
            upper = 2 * (upper_y.to(tl.int64) * width + x)
            lower = 2 * (lower_y.to(tl.int64) * width + x)
            lines = (
                _lines_between(rows_ptr, task, upper, THICKNESS, BUNDLES, PARTS),
                _lines_between(rows_ptr, task, lower, THICKNESS, BUNDLES, PARTS),
                _lines_between(columns_ptr, task, upper + 1, THICKNESS, BUNDLES, PARTS),
                _lines_between(columns_ptr, task, lower + 1, THICKNESS, BUNDLES, PARTS),
            )
        else:
            column = line_pointers(columns_ptr, x, THICKNESS, BUNDLES, PARTS)
            lines = (
                line_pointers(rows_ptr, upper_y, THICKNESS, BUNDLES, PARTS),
                line_pointers(rows_ptr, lower_y, THICKNESS, BUNDLES, PARTS),
                column,
                column,
            )
        if START:
            features = line_product(lines, 0, THICKNESS, BUNDLES, PARTS, INTERPOLATE, WARPS)  # [TILE, 32]
            if DECODERS == 0:
                for k in range(1, BUNDLES):
                    features += line_product(lines, k, THICKNESS, BUNDLES, PARTS, INTERPOLATE, WARPS)
        else:
            saved = _feature_pointers(workspace_ptr, workspace_tile + tile, PARTS, WARPS)  # [TILE / 2, 32]
            lower_features = load_value(saved + PARTS * _FEATURES, PARTS)
            features = to_columns(load_value(saved, PARTS), lower_features, WARPS)  # [TILE, 32]
        for k in tl.static_range(FIRST, LAST):
            features = decode(features, decoders[k - FIRST], biases_ptr + k * _DECODER_BIASES, PARTS)  # [TILE, 32]
            if k + 1 < BUNDLES:
                features += line_product(lines, k + 1, THICKNESS, BUNDLES, PARTS, INTERPOLATE, WARPS)
        if HEAD:
            refinement_biases_ptr = biases_ptr + DECODERS * _DECODER_BIASES
            rgb = refine(features, to_rgb, refinement, refinement_biases_ptr, colour_biases_ptr, PARTS)  # [TILE, 16]
            # Loaded here, so that they do not occupy registers before.
            output, stride = tl.load(task + 3), tl.load(task + 4)
            output = output.to(tl.pointer_type(tl.uint8 if QUANTISE else tl.float32))
            x, y = left + pair % _TILE_WIDTH, top + 2 * (pair // _TILE_WIDTH)
            even, odd = to_channel_pairs(rgb, WARPS)  # upper and lower pixels each
            for half in tl.static_range(2):
                pixel = output + ((y + half) * stride + x) * 3
                mask = (x < width) & (y + half < height)
                _store_channels(pixel, even[half], 0, mask, QUANTISE)
                _store_channels(pixel, odd[half], 1, mask, QUANTISE)
        else:
            upper_features, lower_features = to_channels(features, WARPS)  # [TILE / 2, 32] each
            saved = _feature_pointers(workspace_ptr, workspace_tile + tile, PARTS, WARPS)
            store_parts(saved, upper_features, _FEATURES, None, PARTS)
            store_parts(saved + PARTS * _FEATURES, lower_features, _FEATURES, None, PARTS)


@triton.jit
def _lines_between(lines_ptr, task, number, THICKNESS: tl.constexpr, BUNDLES: tl.constexpr, PARTS: tl.constexpr):
    """Pointers and weights of lines (:func:`line_pointers_between`) for numbers [P] of a task's places."""
    first = tl.load(tl.load(task + 8).to(tl.pointer_type(tl.int32)) + number)
    fraction = tl.load(tl.load(task + 9).to(tl.pointer_type(tl.float32)) + number)
    return line_pointers_between(lines_ptr, first, fraction, THICKNESS, BUNDLES, PARTS)


@triton.jit
def _store_channels(pixel, colours, first, mask, QUANTISE: tl.constexpr):
    """Store channels ``first``, ``first`` + 2 … of colours [P, 4], of which there are three, at pointers [P]."""
    channel = first + 2 * tl.arange(0, 4)
    if QUANTISE:
        colours = quantise(colours)
    tl.store(pixel[:, None] + channel[None, :], colours, mask=mask[:, None] & (channel < 3)[None, :])


@triton.jit
def _feature_pointers(workspace_ptr, tile, PARTS: tl.constexpr, WARPS: tl.constexpr):
    """Pointers [8·WARPS, 32] to the features of a tile's upper pixels, each followed by those of its lower one."""
    pair = tile * (8 * WARPS) + tl.arange(0, 8 * WARPS)
    return workspace_ptr + pair[:, None] * (2 * PARTS * _FEATURES) + tl.arange(0, _FEATURES)[None, :]


@triton.jit(
    do_not_specialize=["width", "colours_width", "output_width", "m_x", "m_y"],
    do_not_specialize_on_alignment=["output_ptr"],  # it may begin at any pixel
)
def average_colours_kernel(
    colours_ptr,
    output_ptr,
    width,
    colours_width,
    output_width,
    m_x,
    m_y,
    BLOCK: tl.constexpr,
    QUANTISE: tl.constexpr,
):
    """Average boxes of m_y × m_x colours. Program (y, i) writes pixels i·BLOCK … of row y.

    Sums are fp64, from top left to bottom right, so that a pixel does not depend on the other pixels.

    Args:
        colours_ptr: fp32 [H·m_y, colours_width, 3].
        output_ptr: first pixel to write of uint8 or fp32 [H, output_width, 3].
        width: pixels to write per row.
        colours_width, output_width: row strides in pixels.
        m_x, m_y: supersampling factors.
        BLOCK: pixels per program.
        QUANTISE: the output is uint8.
    """
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, 4)[None, :]
    mask = (x < width) & (channel < 3)
    colours = colours_ptr + (tl.program_id(0).to(tl.int64) * m_y * colours_width + x * m_x) * 3 + channel
    acc = tl.zeros([BLOCK, 4], tl.float64)
    for _ in range(0, m_y):
        for j in range(0, m_x):
            acc += tl.load(colours + j * 3, mask=mask, other=0.0)
        colours += colours_width * 3
    mean = (acc / (m_x * m_y).to(tl.float64)).to(tl.float32)  # [BLOCK, 4]
    pixels = output_ptr + (tl.program_id(0).to(tl.int64) * output_width + x) * 3 + channel
    tl.store(pixels, quantise(mean) if QUANTISE else mean, mask=mask)


@triton.jit
def quantise(colours):
    """Colours −1 … 1 → 0 … 255, truncated as in the original tools. NaN becomes 0."""
    return tl.minimum(tl.maximum(colours * 127.5 + 128.0, 0.0), 255.0).to(tl.uint8)
