"""Equivariance: whether a picture that is moved or turned is the moved or turned picture (StyleGAN3, appendix E)."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.evaluation.image_sets import Sampler
from model.evaluation.scale_consistency import MAX_PSNR, PEAK
from model.geometry.transforms import Transform
from model.util.progress import progress
from model.viewport import Viewport

Levels = NDArray[np.float64]

MAX_SHIFT = 0.125
"""Longest shift along an axis, in sides of the picture, as StyleGAN3's."""

_TAPS = 3
"""Radius of the Lanczos filter in pixels, as StyleGAN3's."""


def translation_equivariance(sampler: Sampler, side: int, count: int) -> float:
    """EQ-T in dB: each seed's picture is moved by a random fraction of pixels, and its image shifted by Lanczos."""

    def choose(numbers: np.random.RandomState) -> tuple[Transform, float, Levels]:
        shift = numbers.uniform(-MAX_SHIFT, MAX_SHIFT, 2)
        return Transform("translate", tuple(shift)), 0.0, shift

    return _equivariance(sampler, side, count, choose, "moving images")


def rotation_equivariance(sampler: Sampler, side: int, count: int) -> float:
    """EQ-R in dB: each seed's picture is turned by a random angle, and its image by Lanczos."""

    def choose(numbers: np.random.RandomState) -> tuple[Transform, float, Levels]:
        degrees = numbers.uniform(0, 360)
        return Transform("rotate", (degrees,)), math.radians(degrees), np.zeros(2)

    return _equivariance(sampler, side, count, choose, "turning images")


def _equivariance(
    sampler: Sampler,
    side: int,
    count: int,
    choose: Callable[[np.random.RandomState], tuple[Transform, float, Levels]],
    description: str,
) -> float:
    """PSNR in dB of the mean square over all seeds and the pixels that both images show."""
    total, pixels = 0.0, 0
    for seed in progress(range(count), count, description):
        transform, angle, shift = choose(np.random.RandomState(seed))
        (plain,) = sampler([seed], Viewport.resolve(side, side))
        (moved,) = sampler([seed], Viewport.resolve(side, side, transform=[transform]))
        y, x = _sources(side, angle, shift)
        inside = (np.minimum(x, y) >= _TAPS - 1) & (np.maximum(x, y) <= side - _TAPS)
        difference = moved[inside].astype(np.float64) - lanczos(plain.astype(np.float64), y[inside], x[inside])
        total += float(np.square(difference).sum())
        pixels += difference.size
    error = total / pixels
    return MAX_PSNR if error <= PEAK**2 / 10 ** (MAX_PSNR / 10) else 10 * math.log10(PEAK**2 / error)


def _sources(side: int, angle: float, shift: Levels) -> tuple[Levels, Levels]:
    """Rows and columns [side, side] of the plain image that pixels of the moved one show; clockwise, y downwards."""
    y, x = (np.indices((side, side)) + 0.5) / side - 0.5
    x, y = x - shift[0], y - shift[1]
    x, y = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return (y + 0.5) * side - 0.5, (x + 0.5) * side - 0.5


def lanczos(image: Levels, y: Levels, x: Levels) -> Levels:
    """Values [P, 3] of an image [H, W, 3] between its pixels, at rows and columns [P] whose taps lie within it."""
    first_y, first_x = (np.floor(place).astype(int) - _TAPS + 1 for place in (y, x))
    weights_y, weights_x = _weights(y - first_y), _weights(x - first_x)
    values = np.zeros((len(y), image.shape[2]))
    for i in range(2 * _TAPS):
        for j in range(2 * _TAPS):
            rows, columns = np.minimum(first_y + i, len(image) - 1), np.minimum(first_x + j, image.shape[1] - 1)
            values += (weights_y[i] * weights_x[j])[:, None] * image[rows, columns]
    return values


def _weights(place: Levels) -> Levels:
    """Weights [2·_TAPS, P] of taps 0, 1 … at places [P] from tap 0. Their sum is 1."""
    distance = place[None] - np.arange(2 * _TAPS)[:, None]
    weights: Levels = np.sinc(distance) * np.sinc(distance / _TAPS) * (np.abs(distance) < _TAPS)
    weights /= weights.sum(axis=0)
    return weights
