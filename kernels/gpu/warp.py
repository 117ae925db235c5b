"""Warped images: pixels at any coordinates, for rotation or lens distortion.

A row line and a column line are functions of one coordinate each. Both are sampled densely and interpolated linearly
for each pixel. An axis-aligned zoom or pan does not need this.
"""

import math

import numpy as np
from numpy.typing import NDArray

PER_PIXEL = 8
"""Lines per pixel of the training resolution. On a trained network 8 changed 2 % of all 8-bit values by one level; 4
changed 5 %."""

PER_CYCLE = 64
"""Lines per cycle of the highest input frequency, which spans only a few pixels in a network of low resolution."""

PLACES = 256
"""Places between two lines."""


def line_density(resolution: int, highest_frequency: float) -> int:
    """Lines per unit of network coordinates, for a training resolution and a frequency in cycles per unit."""
    return max(PER_PIXEL * resolution, math.ceil(PER_CYCLE * highest_frequency))


def sample(
    coordinates: NDArray[np.float64], density: int, page: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions of the lines that cover network coordinates along one axis.

    Args:
        coordinates: network coordinates of any shape.
        density: lines per unit.
        page: number of lines in a page.

    Returns:
        Network coordinates of the lines [L ≥ 2], multiples of 1 / density; and the given coordinates in units of lines
        from the first, in the same shape. They are multiples of 1 / PLACES, which float32 subtracts exactly: so they
        give the same pixels from any first line. Lines are whole pages, which parts of an image share.
    """
    scaled = np.round(coordinates * (density * PLACES)) / PLACES
    first, last = int(scaled.min() // page) * page, int(np.ceil(scaled.max()))
    count = -(-(max(last, first + 1) + 1 - first) // page) * page
    lines = np.arange(first, first + count, dtype=np.float64) / density
    return lines, (scaled - first).astype(np.float32)
