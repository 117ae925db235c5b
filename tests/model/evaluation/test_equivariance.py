"""Equivariance of pictures that move as they should, and of such whose detail stays at its pixels."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from model.evaluation.equivariance import lanczos, rotation_equivariance, translation_equivariance
from model.evaluation.image_sets import Sampler
from model.geometry.maps import pull_back
from model.viewport import Viewport

Levels = NDArray[np.float64]
Measure = Callable[[Sampler, int, int], float]


def wave(x: Levels, y: Levels) -> NDArray[np.float32]:
    """Of three and two cycles, far below what 64 pixels resolve."""
    levels = 128 + 100 * np.sin(6 * np.pi * x + 1) * np.cos(4 * np.pi * y)
    return np.repeat(levels[..., None], 3, axis=-1).astype(np.float32)


def moving(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
    upright = viewport.upright
    shown = viewport if upright is None else upright[0]
    x, y = np.meshgrid(shown.plane(0, shown.width, 0), shown.plane(0, shown.height, 1))
    x, y = pull_back(shown.transform)(x - 0.5, y - 0.5)
    return [wave(x + 0.5, y + 0.5) for _ in seeds]


def sticking(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
    """The same image, however it is moved."""
    return moving(seeds, Viewport.resolve(viewport.width, viewport.height))


@pytest.mark.parametrize("measure", [translation_equivariance, rotation_equivariance])
def test_what_moves_and_what_sticks(measure: Measure) -> None:
    assert measure(moving, 64, 4) > 45
    assert measure(sticking, 64, 4) < 20


@pytest.mark.parametrize("measure", [translation_equivariance, rotation_equivariance])
def test_a_wrong_direction_is_found(measure: Measure) -> None:
    def mirrored(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
        if viewport == Viewport.resolve(64, 64):
            return moving(seeds, viewport)
        return [image[::-1, ::-1] for image in moving(seeds, viewport)]

    assert measure(mirrored, 64, 4) < 20


def test_lanczos_meets_pixels_and_constants() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (12, 12, 3))
    y, x = np.array([3.0, 5.0]), np.array([4.0, 6.0])
    assert lanczos(image, y, x) == pytest.approx(image[[3, 5], [4, 6]])
    assert lanczos(np.full((12, 12, 3), 7.0), y + 0.3, x + 0.6) == pytest.approx(7.0)
