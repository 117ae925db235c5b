"""Warped images: pixels at any coordinates, for rotation or lens distortion.

A row line and a column line are functions of one coordinate each. Both are sampled densely and interpolated linearly
for each pixel. An axis-aligned zoom or pan does not need this.
"""

import math

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.viewport import REGION_BOUNDS

PER_PIXEL = 8
"""Lines per pixel of the training resolution. On a trained network 8 changed 2 % of all 8-bit values by one level; 4
changed 5 %."""

PER_CYCLE = 64
"""Lines per cycle of the highest input frequency, which spans only a few pixels in a network of low resolution."""


def check_coordinates(coordinates: NDArray[np.float64]) -> None:
    """Raise InputError unless coordinates are finite, [H, W, 2] and within the bounds of a region."""
    if coordinates.ndim != 3 or coordinates.shape[2] != 2 or coordinates.size == 0:
        raise InputError("coordinates", f"must be an array [H, W, 2], not {list(coordinates.shape)}")
    low, high = REGION_BOUNDS
    if not (low <= coordinates.min() and coordinates.max() <= high):  # also rejects NaN
        raise InputError("coordinates", f"must be numbers from {low:g} to {high:g}")


def line_density(resolution: int, highest_frequency: float) -> int:
    """Lines per unit of network coordinates, for a training resolution and a frequency in cycles per unit."""
    return max(PER_PIXEL * resolution, math.ceil(PER_CYCLE * highest_frequency))


def sample(coordinates: NDArray[np.float64], density: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Positions of the lines that cover network coordinates along one axis.

    Args:
        coordinates: network coordinates of any shape.
        density: lines per unit.

    Returns:
        Network coordinates of the lines [L ≥ 2], multiples of 1 / density; and the given coordinates in units of lines
        from the first, in the same shape.
    """
    scaled = coordinates * density
    first, last = int(np.floor(scaled.min())), int(np.ceil(scaled.max()))
    lines = np.arange(first, max(last, first + 1) + 1, dtype=np.float64) / density
    return lines, (scaled - first).astype(np.float32)
