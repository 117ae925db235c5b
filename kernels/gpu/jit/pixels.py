"""Pixels on a GPU: line products, decoders, colours, refinement and quantisation to 8 bits in one or a few launches.

The weights of all decoders (287 KB for the paper's 512 network) do not fit one multiprocessor's shared memory, so they
run in *phases*, one launch each. A program keeps its phase's weights in shared memory and draws tile after tile;
activations stay in registers from the first layer to the last. From one phase to the next a pixel is 32 features in a
scratch array, which stays in the L2 cache if a group of tasks is small.

A *task* is a rectangle of pixels whose lines, style and output lie anywhere in memory; a launch takes any number.
"""

from itertools import pairwise

import triton
import triton.language as tl

from kernels.layers import COLOURS, decode, load_decoder, load_refinement, load_weight, refine, split
from kernels.products import load_value, place, place_between, product, to_channels, to_columns
from model.config import DECODER_WIDTHS, FEATURES

TASK_FIELDS = 12
"""int64 numbers of one task: 0 address of its first row line, 1 of its first column line, 2 of its style's refinement,
3 of its first output pixel, 4 output pixels from one row to the next, 5 height, 6 width, 7 its first tile in the
scratch array; where coordinates are gathered 8 their address, 9 number of row lines, 10 of column lines."""

PROGRAM_FIELDS = 3
"""int32 numbers of one program: its task, its first tile there, and by how many tiles it goes on."""

TILE_WIDTH = 16
"""Pixels of a tile from left to right. It is as many as warps high."""

_FEATURES = tl.constexpr(FEATURES)
_COLOURS = tl.constexpr(COLOURS)
_TASK_FIELDS = tl.constexpr(TASK_FIELDS)
_PROGRAM_FIELDS = tl.constexpr(PROGRAM_FIELDS)
_TILE_WIDTH = tl.constexpr(TILE_WIDTH)
_DECODER_WEIGHTS = tl.constexpr(sum(a * b for a, b in pairwise(DECODER_WIDTHS)))
_DECODER_BIASES = tl.constexpr(sum(DECODER_WIDTHS[1:]))


@triton.jit
def draw_pixels(
    tasks_ptr,
    programs_ptr,
    weights_ptr,
    biases_ptr,
    colour_biases_ptr,
    scratch_ptr,
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
    GATHER: tl.constexpr,
    QUANTISE: tl.constexpr,
    WARPS: tl.constexpr,
):
    """One phase: decoders FIRST … LAST − 1 of the pixels of several tasks. A program draws tiles of one of them.

    START: the phase begins with the first product, else with the features that the previous phase left in the scratch
    array. HEAD: it ends with colours, quantised to uint8 or as fp32, else with features.
    """
    program = programs_ptr + tl.program_id(0) * _PROGRAM_FIELDS
    task = tasks_ptr + tl.load(program) * _TASK_FIELDS
    own_first, own_step = tl.load(program + 1), tl.load(program + 2)
    rows = tl.multiple_of(tl.load(task).to(tl.pointer_type(tl.float16)), 16)
    columns = tl.multiple_of(tl.load(task + 1).to(tl.pointer_type(tl.float16)), 16)
    height, width = tl.load(task + 5).to(tl.int32), tl.load(task + 6).to(tl.int32)
    first_tile = tl.load(task + 7)

    decoders = ()
    for k in tl.static_range(FIRST, LAST):
        decoders += (load_decoder(weights_ptr + k * _DECODER_WEIGHTS, weights_low_part, PARTS),)  # type: ignore[assignment]
    if HEAD:
        to_rgb_ptr = weights_ptr + DECODERS * _DECODER_WEIGHTS
        to_rgb = load_weight(to_rgb_ptr, weights_low_part, _FEATURES, _COLOURS, PARTS)
        refinement_ptr = tl.multiple_of(tl.load(task + 2).to(tl.pointer_type(tl.float16)), 16)
        refinement = load_refinement(refinement_ptr, refinement_low_part, PARTS)

    TILE: tl.constexpr = 16 * WARPS
    TILE_HEIGHT: tl.constexpr = TILE // _TILE_WIDTH
    pair = tl.arange(0, TILE // 2)  # an upper and a lower pixel
    tiles_across = tl.cdiv(width, _TILE_WIDTH)
    tiles = tiles_across * tl.cdiv(height, TILE_HEIGHT)
    for tile in range(own_first, tiles, own_step):
        top = tile // tiles_across * TILE_HEIGHT
        left = tile % tiles_across * _TILE_WIDTH
        # Pixels beyond the edge repeat those at the edge, and are not stored.
        x = tl.minimum(left + pair % _TILE_WIDTH, width - 1)
        y = top + 2 * (pair // _TILE_WIDTH)
        upper_y, lower_y = tl.minimum(y, height - 1), tl.minimum(y + 1, height - 1)
        if GATHER:
            at = tl.load(task + 8).to(tl.pointer_type(tl.float32))
            row_count, column_count = tl.load(task + 9).to(tl.int32), tl.load(task + 10).to(tl.int32)
            upper, lower = at + 2 * (upper_y.to(tl.int64) * width + x), at + 2 * (lower_y.to(tl.int64) * width + x)
            lines = (
                place_between(rows, row_count, tl.load(upper), THICKNESS, BUNDLES, PARTS),
                place_between(rows, row_count, tl.load(lower), THICKNESS, BUNDLES, PARTS),
                place_between(columns, column_count, tl.load(upper + 1), THICKNESS, BUNDLES, PARTS),
                place_between(columns, column_count, tl.load(lower + 1), THICKNESS, BUNDLES, PARTS),
            )
        else:
            column = place(columns, x, THICKNESS, BUNDLES, PARTS)
            lines = (
                place(rows, upper_y, THICKNESS, BUNDLES, PARTS),
                place(rows, lower_y, THICKNESS, BUNDLES, PARTS),
                column,
                column,
            )
        if START:
            features = product(lines, 0, THICKNESS, BUNDLES, PARTS, GATHER, WARPS)
            if DECODERS == 0:
                for k in range(1, BUNDLES):
                    features += product(lines, k, THICKNESS, BUNDLES, PARTS, GATHER, WARPS)
        else:
            saved = _place_features(scratch_ptr, first_tile + tile, PARTS, WARPS)
            lower_features = load_value(saved + PARTS * _FEATURES, PARTS)
            features = to_columns(load_value(saved, PARTS), lower_features, WARPS)
        for k in tl.static_range(FIRST, LAST):
            features = decode(features, decoders[k - FIRST], biases_ptr + k * _DECODER_BIASES, PARTS)
            if k + 1 < BUNDLES:
                features += product(lines, k + 1, THICKNESS, BUNDLES, PARTS, GATHER, WARPS)
        if HEAD:
            biases = biases_ptr + DECODERS * _DECODER_BIASES
            rgb = refine(features, to_rgb, refinement, biases, colour_biases_ptr, PARTS)
            m = tl.arange(0, TILE)
            within = 8 * (m // 16) + m % 8
            x = left + within % _TILE_WIDTH
            y = top + 2 * (within // _TILE_WIDTH) + m // 8 % 2
            channel = tl.arange(0, _COLOURS)
            # Loaded here, so that they take no registers before.
            output, stride = tl.load(task + 3), tl.load(task + 4)
            offset = (y * stride + x)[:, None] * 3 + channel[None, :]
            inside = ((x < width) & (y < height))[:, None] & (channel < 3)[None, :]
            if QUANTISE:
                tl.store(output.to(tl.pointer_type(tl.uint8)) + offset, quantise(rgb), mask=inside)
            else:
                tl.store(output.to(tl.pointer_type(tl.float32)) + offset, rgb, mask=inside)
        else:
            upper_features, lower_features = to_channels(features, WARPS)
            saved = _place_features(scratch_ptr, first_tile + tile, PARTS, WARPS)
            store_value(saved, upper_features, PARTS)
            store_value(saved + PARTS * _FEATURES, lower_features, PARTS)


@triton.jit
def _place_features(scratch, tile, PARTS: tl.constexpr, WARPS: tl.constexpr):
    """Pointers [8·WARPS, 32] to the features of a tile's upper pixels, each followed by those of its lower one."""
    pair = tile * (8 * WARPS) + tl.arange(0, 8 * WARPS)
    return scratch + pair[:, None] * (2 * PARTS * _FEATURES) + tl.arange(0, _FEATURES)[None, :]


@triton.jit(
    do_not_specialize=["width", "colours_width", "output_width", "across", "down"],
    do_not_specialize_on_alignment=["output_ptr"],  # which begins at any pixel
)
def average_colours(
    colours_ptr,
    output_ptr,
    width,
    colours_width,
    output_width,
    across,
    down,
    BLOCK: tl.constexpr,
):
    """Boxes of ``down`` × ``across`` colours, fp32 [H·down, colours_width, 3] → uint8 pixels [H, output_width, 3].

    Program (y, i) makes BLOCK pixels of row y, of which ``width`` are drawn. Sums are fp64, from top left to bottom
    right, so that a pixel does not depend on what else is drawn.
    """
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[:, None]
    channel = tl.arange(0, 4)[None, :]
    inside = (x < width) & (channel < 3)
    colours = colours_ptr + (tl.program_id(0).to(tl.int64) * down * colours_width + x * across) * 3 + channel
    total = tl.zeros([BLOCK, 4], tl.float64)
    for _ in range(0, down):
        for j in range(0, across):
            total += tl.load(colours + j * 3, mask=inside, other=0.0)
        colours += colours_width * 3
    mean = (total / (across * down).to(tl.float64)).to(tl.float32)
    tl.store(output_ptr + (tl.program_id(0).to(tl.int64) * output_width + x) * 3 + channel, quantise(mean), mask=inside)


@triton.jit
def store_value(pointers, value, PARTS: tl.constexpr):
    """The inverse of :func:`kernels.products.load_value`."""
    high, low = split(value, PARTS)
    tl.store(pointers, high)
    if PARTS == 2:
        tl.store(pointers + _FEATURES, low)


@triton.jit
def quantise(colours):
    """Colours −1 … 1 → 0 … 255, cut as the original tools do. What is not a number becomes 0."""
    return tl.minimum(tl.maximum(colours * 127.5 + 128.0, 0.0), 255.0).to(tl.uint8)
