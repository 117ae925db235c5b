"""Scale consistency of functions whose agreement between scales is known, and of networks."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.evaluation.generator_sampler import GeneratorSampler
from model.evaluation.scale_consistency import MAX_PSNR, psnr, scale_consistency
from model.viewport import Viewport
from tests.kernels.networks import TINY, random_network

Levels = NDArray[np.float32]


class Function:
    """Samples a function of (seed, x, y), 0 … 1 over the unit square, at the pixel centres. Records its calls."""

    def __init__(self, levels: Callable[..., NDArray[np.floating]]) -> None:
        self.levels = levels
        self.asked: list[tuple[int, int]] = []

    def __call__(self, seeds: Sequence[int], viewport: Viewport, /) -> list[Levels]:
        assert viewport.grid == "centers"
        assert viewport.crop == (0, 0, viewport.width, viewport.height)
        self.asked += [(seed, viewport.width) for seed in seeds]
        x, y = ((np.arange(n) + 0.5) / n for n in (viewport.width, viewport.height))
        images = (self.levels(seed, *np.meshgrid(x, y)) for seed in seeds)
        return [np.repeat(image[:, :, None], 3, axis=2).astype(np.float32) for image in images]


def test_psnr_by_hand() -> None:
    zeros = np.zeros((4, 5, 3), np.uint8)
    assert psnr(zeros, zeros + 1) == pytest.approx(20 * math.log10(255))  # 48.13 dB
    assert psnr(zeros, np.full((4, 5, 3), 255, np.uint8)) == 0
    half = zeros.copy()
    half[:2] = 10
    assert psnr(half, zeros) == pytest.approx(10 * math.log10(255**2 / 50))
    assert psnr(zeros, zeros) == MAX_PSNR
    assert math.isnan(psnr(zeros, np.full((4, 5, 3), np.nan)))


@given(st.floats(-100, 100), st.floats(-100, 100), st.integers(1, 40))
def test_what_is_linear_agrees(a: float, b: float, side: int) -> None:
    """The two grids are registered: whatever is linear in position is the same in both."""
    mean, worst = scale_consistency(Function(lambda _, x, y: 128 + a * x + b * y), side, 1)
    assert mean == worst
    assert mean > 95


def test_waves_by_hand() -> None:
    """Samples ¼ pixel to either side of a centre average to the wave times cos(2πf/4N), in both axes' product.

    The difference has the wave's mean square, 100²/4, times (1 − cos²(πf/2N))².
    """
    side, frequency = 32, 4
    wave = Function(lambda _, x, y: 128 + 100 * np.sin(2 * np.pi * frequency * x) * np.sin(2 * np.pi * frequency * y))
    lost = 1 - math.cos(math.pi * frequency / (2 * side)) ** 2
    expected = 10 * math.log10(255**2 / (2500 * lost**2))
    assert scale_consistency(wave, side, 1)[0] == pytest.approx(expected, abs=1e-3)


def test_images_cut_to_integers_have_58_db_at_most() -> None:
    """Each pixel is a slope of its own, which would agree, so that only the cut is left; its errors are independent."""
    side = 32
    rng = np.random.default_rng(0)
    level, (right, down) = rng.uniform(60, 190, (side, side)), rng.uniform(-50, 50, (2, side, side))

    def slopes(_: int, x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.floating]:
        (column, u), (row, v) = ((np.floor(a * side).astype(int), a * side % 1 - 0.5) for a in (x, y))
        levels: NDArray[np.floating] = level[row, column] + right[row, column] * u + down[row, column] * v
        return levels

    def cut(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.uint8]]:
        return [image.astype(np.uint8) for image in Function(slopes)(seeds, viewport)]

    assert scale_consistency(Function(slopes), side, 1)[0] > 95
    measured = scale_consistency(cut, side, 1)[0]
    assert measured == pytest.approx(10 * math.log10(255**2 / (1 / 12 + 1 / 48)), abs=0.5)  # 57.95 dB


def test_mean_and_worst_of_the_seeds() -> None:
    """The level depends on the scale, by so many levels as the seed says."""

    def levels(seed: int, x: NDArray[np.floating], _: object) -> NDArray[np.floating]:
        return np.full(x.shape, 100.0 + (seed + 1) * (x.shape[0] > 8))

    function = Function(levels)
    each = [20 * math.log10(255 / (seed + 1)) for seed in range(5)]
    assert scale_consistency(function, 8, 5, batch=2) == pytest.approx((sum(each) / 5, min(each)))
    assert sorted(function.asked) == [(seed, side) for seed in range(5) for side in (8, 16)]


def test_a_smooth_network_agrees_more() -> None:
    (rough, worst_rough), (smooth, worst_smooth) = (
        scale_consistency(GeneratorSampler(random_network(TINY, frequencies=frequencies)), 16, 4)
        for frequencies in (1.0, 0.1)
    )
    assert worst_rough < rough < worst_smooth - 10 < smooth < MAX_PSNR
