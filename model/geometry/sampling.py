"""How many samples the pixels of a transformed image take, so that detail is averaged and not aliased."""

import math

import numpy as np
from numpy.typing import NDArray

from model.geometry.maps import Array, PullBack

BLOCK = 16
"""Side in pixels of the blocks, aligned to the whole image, whose pixels all take the same number of samples."""

MAX_SAMPLES = 8
"""Most samples of a pixel along each axis. More detail than that aliases."""

MAX_DETAIL_SAMPLES = 4
"""Most samples along an axis of a pixel that are taken for detail finer than the pixels of training images. They bound
the cost to 16 samples a pixel; detail that is finer still is attenuated, not removed."""

_ESTIMATE = 64
"""Pixels along each axis from which the samples of a whole image are estimated."""


def sample_counts(
    pull_back: PullBack, x: Array, y: Array, resolution: int, max_scale: float = 1.0
) -> NDArray[np.int64]:
    """Samples per axis for every block of pixels: [rows of blocks, columns of blocks].

    m = ⌈R·σ⌉ with σ the largest singular value of the pull-back's Jacobian, in the square's side per pixel, and the
    largest m of the block's pixels. Detail of ``max_scale`` takes up to MAX_DETAIL_SAMPLES.

    Args:
        pull_back: takes coordinates relative to the centre of the unit square.
        x, y: plane coordinates of the pixels' edges, [W + 1] and [H + 1], W and H multiples of BLOCK.
        resolution, max_scale: R, the training resolution, and the scale of the network's finest detail.
    """
    u, v = pull_back(*np.meshgrid(x - 0.5, y - 0.5))  # [H + 1, W + 1]
    right = _differences(u[:-1], v[:-1], axis=1)  # [H, W]
    down = _differences(u[:, :-1], v[:, :-1], axis=0)
    samples = _samples(right, down, resolution, max_scale)
    height, width = samples.shape
    counts: NDArray[np.int64] = samples.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).max(axis=(1, 3))
    return counts


def mean_samples(
    pull_back: PullBack, x: Array, y: Array, step: tuple[float, float], resolution: int, max_scale: float = 1.0
) -> float:
    """The mean number of samples of a pixel, m², estimated from pixels at plane coordinates x [W] and y [H].

    Args:
        step: width and height of a pixel in the plane.
    """
    x, y = np.meshgrid(_thin(x) - 0.5, _thin(y) - 0.5)
    u, v = pull_back(x, y)
    right, down = (
        [a - b for a, b in zip(pull_back(*moved), (u, v), strict=True)]
        for moved in ((x + step[0], y), (x, y + step[1]))
    )
    return float(np.square(_samples(_wrap(*right), _wrap(*down), resolution, max_scale)).mean())


def _thin(x: Array) -> Array:
    thinned: Array = x[np.unique(np.linspace(0, len(x) - 1, _ESTIMATE).round().astype(int))]
    return thinned


def _differences(u: Array, v: Array, axis: int) -> tuple[Array, Array]:
    return _wrap(np.diff(u, axis=axis), np.diff(v, axis=axis))


def _wrap(u: Array, v: Array) -> tuple[Array, Array]:
    """Differences without the jump of an angle from the last to the first of a turn, which is none in the picture."""
    return u - np.round(u), v


def _samples(
    right: tuple[Array, Array], down: tuple[Array, Array], resolution: int, max_scale: float
) -> NDArray[np.int64]:
    """Samples per axis of pixels whose edges span ``right`` and ``down`` in the picture."""
    (a, c), (b, d) = right, down
    half = (a * a + b * b + c * c + d * d) / 2
    difference = np.hypot(a * a + c * c - b * b - d * d, 2 * (a * b + c * d)) / 2
    sigma = np.nan_to_num(np.sqrt(half + difference), nan=0.0, posinf=math.inf)
    # Rounding errors of the Jacobian must not cost four times the work.
    coarse = np.clip(np.ceil(resolution * sigma - 1e-6), 1, MAX_SAMPLES)
    detail = np.clip(np.ceil(resolution * max_scale * sigma - 1e-6), 1, MAX_DETAIL_SAMPLES)
    samples: NDArray[np.int64] = np.maximum(coarse, detail).astype(np.int64)
    return samples
