"""Pace: frames at equal distances of perceived change, in place of equal times."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pace = Literal["time", "perceived"]

Array = NDArray[np.float64]

PROXY_SIDE = 64
"""Side in pixels of the small images that are compared."""

PROXIES_PER_FRAME, MAX_PROXIES = 8, 1024

_CHROMA = 0.5
"""Weight of a change of chroma beside one of luma."""

_YCC = np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]])
"""ITU-R BT.709: luma, blue and red chroma of red, green and blue."""


def proxy_times(duration: float, frames: int) -> Array:
    """The times of the proxies of a video, with its first and last moment."""
    return np.linspace(0.0, duration, min(PROXIES_PER_FRAME * frames, MAX_PROXIES) + 1)


def paced_times(duration: float, proxies: Iterable[Sequence[NDArray[np.uint8]]], moments: Array) -> Array:
    """The times until which given parts of all change, from 0 to 1, have been perceived.

    Args:
        proxies: for each of the times of :func:`proxy_times`, the images [64, 64, 3] of all cells.
        moments: the parts.
    """
    changes = [perceived_change(before, after) for before, after in pairwise(map(_features, proxies))]
    covered = np.concatenate([[0.0], np.cumsum(np.array(changes) + 1e-9)])  # strictly increasing
    times = np.linspace(0.0, duration, len(covered))
    return monotone_cubic(covered / covered[-1], times, moments)


def perceived_change(before: Array, after: Array) -> float:
    """The distance of two feature vectors."""
    return float(np.linalg.norm(after - before))


def _features(images: Sequence[NDArray[np.uint8]]) -> Array:
    """Luma and chroma of the images at all scales, each scale with the same weight."""
    levels = []
    for image in images:
        level = image.astype(np.float64) @ _YCC.T * (1.0, _CHROMA, _CHROMA)
        while True:
            levels.append((level / np.sqrt(level.size)).flatten())
            side = len(level) // 2
            if not side:
                break
            level = level.reshape(side, 2, side, 2, 3).mean(axis=(1, 3))
    return np.concatenate(levels)


def monotone_cubic(x: Array, y: Array, at: Array) -> Array:
    """Values of the increasing curve through points [K] that does not overshoot (PCHIP; Fritsch and Butland 1984)."""
    step = np.diff(x)
    slope = np.diff(y) / step
    tangent = np.concatenate([slope[:1], np.zeros(len(x) - 2), slope[-1:]])
    if len(x) > 2:
        w0, w1 = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
        tangent[1:-1] = (w0 + w1) / (w0 / slope[:-1] + w1 / slope[1:])  # the harmonic mean
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(step) - 1)
    t = (at - x[k]) / step[k]
    rise = (1 - t) ** 2 * (y[k] * (1 + 2 * t) + tangent[k] * t * step[k])
    values: Array = rise + t**2 * (y[k + 1] * (3 - 2 * t) - tangent[k + 1] * (1 - t) * step[k])
    return values
