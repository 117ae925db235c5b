"""Whether a network draws the same picture at every scale."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.evaluation.pictures import Draw, pictures_at_once, progress
from model.viewport import Viewport

PEAK = 255.0
"""Largest level, which PSNR is relative to."""

HIGHEST_PSNR = 100.0
"""What equal pictures have, in dB: their PSNR is infinite, which neither JSON nor a mean can hold."""


class ScaleConsistency(NamedTuple):
    """PSNR in dB between a picture and the one of twice its size averaged down to it: over all seeds, and the least."""

    mean: float
    worst: float


def scale_consistency(draw: Draw, side: int, count: int, batch: int = 32) -> ScaleConsistency:
    """Draws seeds 0 … count − 1 at side² and at (2·side)², both on the ``centers`` grid, and compares them.

    Each four pixels of the large picture then lie around one of the small picture, and their average would be that
    pixel if the network were linear within it. What differs is detail that the small picture points at but does not
    resolve (aliasing), or that the network invents between the positions it was trained on.

    Of 8-bit pictures, whose levels have been cut to integers, about 58 dB is the most that can be measured: the errors
    of the cut have a variance of 1/12 in the one and of 1/48 in the other.

    Args:
        draw: what draws.
        side: width and height in pixels, at least the training resolution. Below it drawing is itself averaging.
        count: number of seeds.
        batch: pictures at once, at most.
    """
    small, large = Viewport.resolve(side, side), Viewport.resolve(2 * side, 2 * side)
    at_once = pictures_at_once(2 * side, batch)
    values = []
    with progress("comparing scales", count) as advance:
        for start in range(0, count, at_once):
            seeds = range(start, min(start + at_once, count))
            pairs = zip(draw(seeds, small), draw(seeds, large), strict=True)
            values += [psnr(_halve(twice), once) for once, twice in pairs]
            advance(len(seeds))
    return ScaleConsistency(sum(values) / count, min(values))


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """10·log10(255²/mean((a − b)²)) in dB, HIGHEST_PSNR at most."""
    error = float(np.square(a.astype(np.float64) - b.astype(np.float64)).mean())
    return HIGHEST_PSNR if error <= PEAK**2 / 10 ** (HIGHEST_PSNR / 10) else 10 * math.log10(PEAK**2 / error)


def _halve(picture: NDArray[np.uint8 | np.float32]) -> NDArray[np.float64]:
    """[2·h, 2·w, 3] → [h, w, 3], each pixel the average of four."""
    h, w, channels = picture.shape
    halved: NDArray[np.float64] = picture.reshape(h // 2, 2, w // 2, 2, channels).mean(axis=(1, 3), dtype=np.float64)
    return halved
