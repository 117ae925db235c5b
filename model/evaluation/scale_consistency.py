"""Agreement of a network's images between scales."""

import math

import numpy as np
from numpy.typing import NDArray

from model.evaluation.image_sets import Sampler, limit_batch
from model.util.progress import progress
from model.viewport import Viewport

PEAK = 255.0
"""Largest level, the reference of PSNR."""

_ROWS = 256
"""Rows that are compared at a time: of the largest images float64 takes gigabytes."""

MAX_PSNR = 100.0
"""PSNR of equal images in dB, in place of infinity, which neither JSON nor a mean can hold."""


def scale_consistency(sampler: Sampler, side: int, count: int, batch: int = 32) -> tuple[float, float]:
    """Compare images of seeds 0 … count − 1 at side² with those at (2·side)², both on the ``centers`` grid.

    On this grid four pixels of the large image lie around each pixel of the small one, and their average equals it if
    the network is linear within it. The difference is detail that the small image samples but does not resolve
    (aliasing), or that the network invents between the positions it was trained on.

    Of 8-bit images, whose levels are truncated to integers, at most about 58 dB can be measured: the errors of
    truncation have a variance of 1/12 in the small image and of 1/48 in the average of the large one.

    Args:
        side: width and height in pixels, at least the training resolution; smaller images are averages themselves.
        count: number of seeds.
        batch: most images at a time.

    Returns:
        Mean and least PSNR in dB between images and those of twice the size averaged down to them.
    """
    small, large = Viewport.resolve(side, side), Viewport.resolve(2 * side, 2 * side)
    batch = limit_batch(batch, 2 * side)
    values = []
    for start in progress(range(0, count, batch), count, "comparing scales", step=batch):
        seeds = range(start, min(start + batch, count))
        pairs = zip(sampler(seeds, small), sampler(seeds, large), strict=True)
        values += [psnr(_halve(twice), once) for once, twice in pairs]
    return sum(values) / count, min(values)


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """10·log10(255² / mean((a − b)²)) in dB, at most MAX_PSNR."""
    total = 0.0
    for start in range(0, len(a), _ROWS):
        band = slice(start, start + _ROWS)
        total += float(np.square(a[band].astype(np.float64) - b[band].astype(np.float64)).sum())
    error = total / a.size
    return MAX_PSNR if error <= PEAK**2 / 10 ** (MAX_PSNR / 10) else 10 * math.log10(PEAK**2 / error)


def _halve(image: NDArray[np.uint8 | np.float32]) -> NDArray[np.float64]:
    """[2·h, 2·w, 3] → [h, w, 3], the averages of four pixels."""
    h, w, channels = image.shape
    halved: NDArray[np.float64] = image.reshape(h // 2, 2, w // 2, 2, channels).mean(axis=(1, 3), dtype=np.float64)
    return halved
