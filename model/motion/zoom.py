"""Zooms: regions between two regions."""

import math
from typing import Literal

from model.viewport import Region

Zoom = Literal["direct", "smooth"]
"""``direct`` holds one place fixed, at constant speed; ``smooth`` zooms out on the way to another place."""

_RHO = math.sqrt(2)
"""How far a smooth zoom goes out, rather than pan: the value that people liked best (van Wijk and Nuij 2003)."""


def zoom(start: Region, end: Region, t: float, kind: Zoom = "direct") -> Region:
    """The region at t from 0 to 1."""
    if t in (0.0, 1.0):
        return end if t else start
    return _smooth(start, end, t) if kind == "smooth" else _direct(start, end, t)


def _direct(start: Region, end: Region, t: float) -> Region:
    """Sides change exponentially, s = s₀^(1−t) · s₁^t, and the centre with them: c₁ + (c₀ − c₁)(s − s₁)/(s₀ − s₁)."""
    x0, x1 = _interval((start[0], start[2]), (end[0], end[2]), t)
    y0, y1 = _interval((start[1], start[3]), (end[1], end[3]), t)
    return x0, y0, x1, y1


def _interval(start: tuple[float, float], end: tuple[float, float], t: float) -> tuple[float, float]:
    side0, side1 = start[1] - start[0], end[1] - end[0]
    centre0, centre1 = sum(start) / 2, sum(end) / 2
    side = side0 ** (1 - t) * side1**t
    moved = (side - side1) / (side0 - side1) if abs(side0 - side1) > 1e-9 * side0 else 1 - t
    centre = centre1 + (centre0 - centre1) * moved
    return centre - side / 2, centre + side / 2


def _smooth(start: Region, end: Region, t: float) -> Region:
    """The shortest path of perceived motion (van Wijk and Nuij 2003, "Smooth and efficient zooming and panning").

    The aspect ratio changes exponentially.
    """
    (x0, y0, a0, b0), (x1, y1, a1, b1) = _centred(start), _centred(end)
    distance = math.hypot(x1 - x0, y1 - y0)
    moved, side = _path(distance, math.sqrt(a0 * b0), math.sqrt(a1 * b1), t)
    aspect = (a0 / b0) ** (1 - t) * (a1 / b1) ** t
    width, height = side * math.sqrt(aspect), side / math.sqrt(aspect)
    x, y = (x0 + (x1 - x0) * moved, y0 + (y1 - y0) * moved)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _centred(region: Region) -> tuple[float, float, float, float]:
    """Centre, width and height."""
    x0, y0, x1, y1 = region
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


def _path(distance: float, w0: float, w1: float, t: float) -> tuple[float, float]:
    """The part of the distance that is covered, and the side, at t. Equations 7 to 9, with u = distance."""
    if distance < 1e-9 * max(w0, w1):
        return t, w0 ** (1 - t) * w1**t
    squares = w1**2 - w0**2, _RHO**4 * distance**2
    b0 = (squares[0] + squares[1]) / (2 * w0 * _RHO**2 * distance)
    b1 = (squares[0] - squares[1]) / (2 * w1 * _RHO**2 * distance)
    r0, r1 = -math.asinh(b0), -math.asinh(b1)
    r = r0 + (r1 - r0) * t
    u = w0 / _RHO**2 * (math.cosh(r0) * math.tanh(r) - math.sinh(r0))
    return u / distance, w0 * math.cosh(r0) / math.cosh(r)
