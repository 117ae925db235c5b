"""On the ``centers`` grid every scale shows the same thing at the same place: the pyramid of a zoom viewer needs that.

The network is random but smooth (a fifth of the usual frequencies), so that averaging loses hardly any detail.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.renderer import Renderer
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Grid, Viewport
from tests.kernels.networks import TINY, random_checkpoint

NATIVE = 32
"""Pixels of the side that is compared: twice the training resolution, so that nothing is supersampled."""

TOLERANCE = 0.5
"""Mean absolute difference of two scales, in levels of 255. Rounding alone makes 0.25, half a pixel of shift 1."""

MISPLACED = 0.03
"""Pixels of the native picture by which a scale may seem shifted."""

Draw = Callable[[int, Grid], NDArray[np.float64]]


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    renderer = Renderer(random_checkpoint(tmp_path_factory.mktemp("smooth"), TINY, frequencies=0.2), "cpu")

    def at_size(size: int, grid: Grid) -> NDArray[np.float64]:
        spec = RenderSpec("smooth", Latent(seed=4), Viewport.resolve(size, size, grid=grid))
        return renderer.render(spec).astype(np.float64)

    return at_size


def average_down(image: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    factor = len(image) // size
    averaged: NDArray[np.float64] = image.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
    return averaged


def displacement(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float, float]:
    """How far b is shifted against a, in pixels downwards and to the right, and how much it is stretched from the
    centre: the least-squares solution of b − a = −(s_y + z·y) ∂a/∂y − (s_x + z·x) ∂a/∂x."""
    gradient_y, gradient_x = (gradient.ravel() for gradient in np.gradient(a, axis=(0, 1)))
    y, x = (np.broadcast_to(axis - (NATIVE - 1) / 2, a.shape).ravel() for axis in np.ogrid[:NATIVE, :NATIVE, :1][:2])
    design = -np.stack([gradient_y, gradient_x, y * gradient_y + x * gradient_x], axis=1)
    solution, *_ = np.linalg.lstsq(design, (b - a).ravel(), rcond=None)
    return float(solution[0]), float(solution[1]), float(solution[2])


@pytest.mark.parametrize("scale", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_large_images_averaged_down_are_the_small_one(draw: Draw, scale: int) -> None:
    native = draw(NATIVE, "centers")
    difference = np.abs(average_down(draw(scale * NATIVE, "centers"), NATIVE) - native)
    assert native.std() > 20
    assert difference.mean() < TOLERANCE


@pytest.mark.parametrize("scale", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_features_stay_in_place(draw: Draw, scale: int) -> None:
    shift_y, shift_x, stretch = displacement(
        draw(NATIVE, "centers"), average_down(draw(scale * NATIVE, "centers"), NATIVE)
    )
    assert abs(shift_y) < MISPLACED
    assert abs(shift_x) < MISPLACED
    assert abs(stretch) * NATIVE / 2 < MISPLACED


def test_supersampled_images_are_registered_too(draw: Draw) -> None:
    """A picture below the training resolution, rendered at a multiple of its size, against one above it."""
    small = draw(TINY.resolution // 4, "centers")
    assert np.abs(average_down(draw(NATIVE, "centers"), len(small)) - small).mean() < TOLERANCE


def test_the_measures_see_the_corners_grid_stretch(draw: Draw) -> None:
    """Corner to corner, N pixels lie 1/(N − 1) apart: scales do not match, and the tests above would tell."""
    native, averaged = draw(NATIVE, "corners"), average_down(draw(4 * NATIVE, "corners"), NATIVE)
    *_, stretch = displacement(native, averaged)
    assert abs(stretch) * NATIVE / 2 > 10 * MISPLACED
    assert np.abs(averaged - native).mean() > TOLERANCE
