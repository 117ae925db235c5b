"""Products of row lines and column lines for GPU kernels, in the order in which a tensor core takes them.

A tensor core spreads an operand or result [16, 8·J] over a warp's 32 lanes: lane 4·r + q has, of rows r and r + 8,
columns 8·j + 2·q and 8·j + 2·q + 1. A product of lines, on the other hand, is computed where lane q has channels
8·q … 8·q + 7, which are one wide load. Hence two conventions, thanks to which nothing moves between lanes:

* channel 8·q + 2·j + e of the features is called column 8·j + 2·q + e (``CHANNEL_OF_COLUMN``), and the weights that
  read or write features are permuted to match;
* rows r and r + 8 are two pixels one above the other, which share their column line unless coordinates are gathered.

Lines are fp16 [L, bundles, D, parts, 32], so that one pointer a pixel and axis reaches every bundle.
"""

import triton
import triton.language as tl

from model.config import FEATURES

CHANNEL_OF_COLUMN = [8 * (column % 8 // 2) + 2 * (column // 8) + column % 2 for column in range(FEATURES)]

_FEATURES = tl.constexpr(FEATURES)
_UNROLLED = tl.constexpr(8)  # the paper's thickness; unrolled, many more loads at once would spill


@triton.jit
def to_columns(upper, lower, WARPS: tl.constexpr):
    """Features [8·WARPS, 32 channels] of upper and of lower pixels → [16·WARPS, 32 columns]."""
    both = tl.reshape(tl.join(upper, lower), [WARPS, 8, 4, 4, 2, 2])  # [warp, r, q, j, e, half]
    return tl.reshape(tl.permute(both, (0, 5, 1, 3, 2, 4)), [16 * WARPS, _FEATURES])  # [warp, half, r, j, q, e]


@triton.jit
def to_channels(features, WARPS: tl.constexpr):
    """The inverse of :func:`to_columns`."""
    both = tl.permute(tl.reshape(features, [WARPS, 2, 8, 4, 4, 2]), (0, 2, 4, 3, 5, 1))
    return tl.split(tl.reshape(both, [8 * WARPS, _FEATURES, 2]))


@triton.jit
def load_value(pointers, PARTS: tl.constexpr):
    """Values whose parts lie 32 numbers apart: fp16, or fp32 where there are two parts."""
    if PARTS == 2:
        return tl.load(pointers).to(tl.float32) + tl.load(pointers + _FEATURES).to(tl.float32)
    else:
        return tl.load(pointers)


@triton.jit
def place(lines, index, THICKNESS: tl.constexpr, BUNDLES: tl.constexpr, PARTS: tl.constexpr):
    """Where lines of whole positions [P] lie: pointers [P, 32] and the fraction of the way to the next line, here 0."""
    STRIDE: tl.constexpr = BUNDLES * THICKNESS * PARTS * _FEATURES
    return lines + index.to(tl.int64)[:, None] * STRIDE + tl.arange(0, _FEATURES)[None, :], 0.0


@triton.jit
def place_between(lines, count, position, THICKNESS: tl.constexpr, BUNDLES: tl.constexpr, PARTS: tl.constexpr):
    """As :func:`place`, for positions [P] between the ``count`` lines, which count from 0. Outer lines are extended."""
    index = tl.minimum(tl.maximum(tl.floor(position).to(tl.int32), 0), count - 2)
    fraction = (position - index.to(tl.float32))[:, None]
    if PARTS == 1:
        fraction = fraction.to(tl.float16)
    return place(lines, index, THICKNESS, BUNDLES, PARTS)[0], fraction


@triton.jit
def _load_line(line, offset, STRIDE: tl.constexpr, PARTS: tl.constexpr, BETWEEN: tl.constexpr):
    here = load_value(line[0] + offset, PARTS)
    if BETWEEN:
        here += (load_value(line[0] + offset + STRIDE, PARTS) - here) * line[1]
    return here


@triton.jit
def _multiply_lines(lines, offset, STRIDE: tl.constexpr, PARTS: tl.constexpr, BETWEEN: tl.constexpr):
    column = _load_line(lines[2], offset, STRIDE, PARTS, BETWEEN)
    upper = _load_line(lines[0], offset, STRIDE, PARTS, BETWEEN) * column
    if BETWEEN:
        column = _load_line(lines[3], offset, STRIDE, PARTS, BETWEEN)
    return upper, _load_line(lines[1], offset, STRIDE, PARTS, BETWEEN) * column


@triton.jit
def product(
    lines,
    bundle,
    THICKNESS: tl.constexpr,
    BUNDLES: tl.constexpr,
    PARTS: tl.constexpr,
    BETWEEN: tl.constexpr,
    WARPS: tl.constexpr,
):
    """F = Σ_d row · column of one bundle: [16·WARPS, 32 columns], fp16, or fp32 where there are two parts.

    ``lines`` are placed row lines of the upper and lower pixels, then column lines of the upper and lower ones.
    BETWEEN: they lie between lines, and the lower pixels' columns are their own.
    """
    STEP: tl.constexpr = PARTS * _FEATURES
    STRIDE: tl.constexpr = BUNDLES * THICKNESS * STEP
    first = bundle * (THICKNESS * STEP)
    upper, lower = _multiply_lines(lines, first, STRIDE, PARTS, BETWEEN)
    if PARTS == 1 and not BETWEEN and THICKNESS <= _UNROLLED:
        for d in tl.static_range(1, THICKNESS):
            more_upper, more_lower = _multiply_lines(lines, first + d * STEP, STRIDE, PARTS, BETWEEN)
            upper += more_upper
            lower += more_lower
    else:
        for d in range(1, THICKNESS):
            more_upper, more_lower = _multiply_lines(lines, first + d * STEP, STRIDE, PARTS, BETWEEN)
            upper += more_upper
            lower += more_lower
    return to_columns(upper, lower, WARPS)
