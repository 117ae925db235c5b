"""Zooms: regions between two regions."""

from model.viewport import Region


def zoom(start: Region, end: Region, t: float) -> Region:
    """The region at t from 0 to 1 of a zoom at constant speed, which holds one place of the picture fixed.

    Sides change exponentially, s = s₀^(1−t) · s₁^t, and the centre with them, c = c₁ + (c₀ − c₁)(s − s₁)/(s₀ − s₁).
    """
    x0, x1 = _interval((start[0], start[2]), (end[0], end[2]), t)
    y0, y1 = _interval((start[1], start[3]), (end[1], end[3]), t)
    return x0, y0, x1, y1


def _interval(start: tuple[float, float], end: tuple[float, float], t: float) -> tuple[float, float]:
    if t in (0.0, 1.0):
        return end if t else start
    side0, side1 = start[1] - start[0], end[1] - end[0]
    centre0, centre1 = sum(start) / 2, sum(end) / 2
    side = side0 ** (1 - t) * side1**t
    moved = (side - side1) / (side0 - side1) if abs(side0 - side1) > 1e-9 * side0 else 1 - t
    centre = centre1 + (centre0 - centre1) * moved
    return centre - side / 2, centre + side / 2
