"""Products of row lines and column lines, in the order in which a tensor core reads them.

A tensor core spreads an operand or result [16, 8·J] over the 32 lanes of a warp: lane 4·r + q has columns 8·j + 2·q and
8·j + 2·q + 1 of rows r and r + 8. A product of lines is computed where lane q has channels 8·q … 8·q + 7, which are one
wide load. Two conventions avoid any exchange between lanes:

* channel 8·q + 2·j + e of the features is called column 8·j + 2·q + e (``CHANNEL_OF_COLUMN``), and the weights that
  read or write features are permuted to match;
* rows r and r + 8 are two pixels one above the other, which share their column line unless lines are interpolated.

Lines are fp16 [L, bundles, D, parts, 32], so that one pointer per pixel and axis reaches every bundle.

Arguments of the same name mean the same in all functions:
    lines_ptr: the first line of a page.
    THICKNESS, BUNDLES: D and the number of bundles of a line.
    PARTS: fp16 parts of a value, 1 or 2.
    INTERPOLATE: pixels lie between four lines, and the lower pixels have column lines of their own.
    WARPS: warps of the program; its tile has 16·WARPS pixels, half of them upper and half lower ones.
"""

import triton
import triton.language as tl

from model.config import FEATURES

CHANNEL_OF_COLUMN = [8 * (column % 8 // 2) + 2 * (column // 8) + column % 2 for column in range(FEATURES)]

_FEATURES = tl.constexpr(FEATURES)
_MAX_UNROLLED = tl.constexpr(8)  # the paper's thickness; unrolling many more loads would spill registers


@triton.jit
def to_columns(upper, lower, WARPS: tl.constexpr):
    """Features [8·WARPS, 32 channels] of the upper and of the lower pixels → [16·WARPS, 32 columns]."""
    both = tl.reshape(tl.join(upper, lower), [WARPS, 8, 4, 4, 2, 2])  # [warp, r, q, j, e, half]
    return tl.reshape(tl.permute(both, (0, 5, 1, 3, 2, 4)), [16 * WARPS, _FEATURES])  # [warp, half, r, j, q, e]


@triton.jit
def to_channels(features, WARPS: tl.constexpr):
    """The inverse of :func:`to_columns`."""
    both = tl.permute(tl.reshape(features, [WARPS, 2, 8, 4, 4, 2]), (0, 2, 4, 3, 5, 1))  # [warp, r, q, j, e, half]
    return tl.split(tl.reshape(both, [8 * WARPS, _FEATURES, 2]))


@triton.jit
def to_channel_pairs(colours, WARPS: tl.constexpr):
    """The first 8 columns of colours [16·WARPS, 16] as the tensor core leaves them: no lane needs another's.

    Returns:
        Channels 0, 2, 4, 6 of the upper and of the lower pixels, [8·WARPS, 4] each, and channels 1, 3, 5, 7.
    """
    parts = tl.reshape(colours, [WARPS, 2, 8, 2, 4, 2])  # [warp, half, r, j, q, e]
    parts = tl.reshape(tl.permute(parts, (0, 2, 4, 1, 5, 3)), [8 * WARPS, 4, 2, 2, 2])  # [pixel, q, half, e, j]
    even, odd = tl.split(tl.split(parts)[0])  # [pixel, q, half] each
    return tl.split(even), tl.split(odd)


@triton.jit
def load_value(pointers, PARTS: tl.constexpr):
    """Values whose parts are 32 numbers apart: fp16, or fp32 if PARTS is 2."""
    if PARTS == 2:
        return tl.load(pointers).to(tl.float32) + tl.load(pointers + _FEATURES).to(tl.float32)
    else:
        return tl.load(pointers)


@triton.jit
def line_pointers(lines_ptr, index, THICKNESS: tl.constexpr, BUNDLES: tl.constexpr, PARTS: tl.constexpr):
    """Pointers [P, 32] to lines ``index`` [P], and weights of others, which are 0."""
    STRIDE: tl.constexpr = BUNDLES * THICKNESS * PARTS * _FEATURES
    return lines_ptr + index.to(tl.int64)[:, None] * STRIDE + tl.arange(0, _FEATURES)[None, :], (0.0, 0.0, 0.0)


@triton.jit
def line_pointers_between(
    lines_ptr, first, fraction, THICKNESS: tl.constexpr, BUNDLES: tl.constexpr, PARTS: tl.constexpr
):
    """Pointers [P, 32] to the ``first`` [P] of four lines, and weights [P, 1] of the first, the third and the fourth.

    ``fraction`` [P] is the place between the second line and the third. The weights of a Catmull-Rom spline sum to 1,
    so those three multiply differences from the second line.
    """
    t = fraction[:, None]  # [P, 1]
    t2, t3 = t * t, t * t * t
    weights = (t2 - (t + t3) * 0.5, 2 * t2 + (t - 3 * t3) * 0.5, (t3 - t2) * 0.5)
    if PARTS == 1:
        weights = (weights[0].to(tl.float16), weights[1].to(tl.float16), weights[2].to(tl.float16))
    return line_pointers(lines_ptr, first, THICKNESS, BUNDLES, PARTS)[0], weights


@triton.jit
def _load_line(line, offset, STRIDE: tl.constexpr, PARTS: tl.constexpr, INTERPOLATE: tl.constexpr):
    """Values [P, 32] of a bundle and d at ``offset`` from ``line``, the result of :func:`line_pointers`."""
    pointers, weights = line
    if INTERPOLATE:
        second = load_value(pointers + offset + STRIDE, PARTS)
        value = second + (load_value(pointers + offset, PARTS) - second) * weights[0]
        value += (load_value(pointers + offset + 2 * STRIDE, PARTS) - second) * weights[1]
        value += (load_value(pointers + offset + 3 * STRIDE, PARTS) - second) * weights[2]
    else:
        value = load_value(pointers + offset, PARTS)
    return value


@triton.jit
def _multiply_lines(lines, offset, STRIDE: tl.constexpr, PARTS: tl.constexpr, INTERPOLATE: tl.constexpr):
    """row · column [P, 32] of the upper and of the lower pixels, for the bundle and d at ``offset``."""
    column = _load_line(lines[2], offset, STRIDE, PARTS, INTERPOLATE)
    upper = _load_line(lines[0], offset, STRIDE, PARTS, INTERPOLATE) * column
    if INTERPOLATE:
        column = _load_line(lines[3], offset, STRIDE, PARTS, INTERPOLATE)
    return upper, _load_line(lines[1], offset, STRIDE, PARTS, INTERPOLATE) * column


@triton.jit
def line_product(
    lines,
    bundle,
    THICKNESS: tl.constexpr,
    BUNDLES: tl.constexpr,
    PARTS: tl.constexpr,
    INTERPOLATE: tl.constexpr,
    WARPS: tl.constexpr,
):
    """F = Σ_d row · column of one bundle: [16·WARPS, 32 columns], fp16, or fp32 if PARTS is 2.

    Args:
        lines: results of :func:`line_pointers` for the rows of the upper and lower pixels, then for their columns.
        bundle: index of the bundle.
    """
    STEP: tl.constexpr = PARTS * _FEATURES
    STRIDE: tl.constexpr = BUNDLES * THICKNESS * STEP
    first = bundle * (THICKNESS * STEP)
    upper, lower = _multiply_lines(lines, first, STRIDE, PARTS, INTERPOLATE)  # [8·WARPS, 32 channels] each
    if PARTS == 1 and not INTERPOLATE and THICKNESS <= _MAX_UNROLLED:
        for d in tl.static_range(1, THICKNESS):
            more_upper, more_lower = _multiply_lines(lines, first + d * STEP, STRIDE, PARTS, INTERPOLATE)
            upper += more_upper
            lower += more_lower
    else:
        for d in range(1, THICKNESS):
            more_upper, more_lower = _multiply_lines(lines, first + d * STEP, STRIDE, PARTS, INTERPOLATE)
            upper += more_upper
            lower += more_lower
    return to_columns(upper, lower, WARPS)
