"""Pictures that move follow the exact optical flow: what is left of it is far below a pixel."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.block_warp import nearest_lines, spline_weights
from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.geometry.transforms import parse_transforms
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.models.catalog import DEMO
from tests.kernels.networks import random_checkpoint

Levels = NDArray[np.float64]

SIDE = 128

BLOCKS, MARGIN = 2, 0.25
"""Blocks a side, and the part of the image around them."""

MOVES = pytest.mark.parametrize(
    ("transform", "angle", "shift"),
    [
        ([{"translate": [0.0123, -0.0071]}], 0.0, (0.0123, -0.0071)),
        ([{"rotate": 7}], math.radians(7), (0.0, 0.0)),
        ([{"rotate": -100}], math.radians(-100), (0.0, 0.0)),
    ],
    ids=["pan", "turn", "far"],
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.2)


def luma(renderer: Renderer, transform: list[dict[str, Any]], side: int) -> Levels:
    viewport = Viewport.resolve(side, side, transform=parse_transforms(transform))
    colours = renderer.render(RenderSpec("random", Latent(seed=1), viewport, Encoding("npy")))
    levels: Levels = colours.mean(axis=2, dtype=np.float64)
    return levels


def between_pixels(image: Levels, y: Levels, x: Levels) -> Levels:
    """Values at rows and columns [H, W], by Catmull-Rom splines, which unlike Lanczos shift no slope."""
    (top, down), (left, right) = (nearest_lines(place.ravel(), 1) for place in (y, x))
    rows, columns = (first[:, None] + np.arange(4) for first in (top, left))  # [P, 4]
    weights_y, weights_x = spline_weights(down), spline_weights(right)
    values = np.einsum("pij,pi,pj->p", image[rows[:, :, None], columns[:, None, :]], weights_y, weights_x)
    found: Levels = values.reshape(y.shape)
    return found


def residual_flow(moved: Levels, expected: Levels) -> Levels:
    """Pixels [blocks, 2] by which blocks of two nearly equal images are shifted (Lucas and Kanade 1981)."""
    y, x = np.gradient(expected)
    flows = []
    first, side = round(MARGIN * len(moved)), round((1 - 2 * MARGIN) * len(moved) / BLOCKS)
    for top in range(first, first + BLOCKS * side, side):
        for left in range(first, first + BLOCKS * side, side):
            block = np.s_[top : top + side, left : left + side]
            slopes = np.stack([y[block].ravel(), x[block].ravel()], axis=1)
            flows.append(np.linalg.lstsq(slopes, (expected - moved)[block].ravel(), rcond=None)[0])
    return np.array(flows)


def moved_and_expected(
    renderer: Renderer, transform: list[dict[str, Any]], angle: float, shift: tuple[float, float], side: int = SIDE
) -> tuple[Levels, Levels]:
    """The image of the moved picture, and the plain image, moved by the exact optical flow."""
    plain, moved = luma(renderer, [], side), luma(renderer, transform, side)
    y, x = (np.indices((side, side)) + 0.5) / side - 0.5
    x, y = x - shift[0], y - shift[1]
    x, y = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    rows, columns = (((place + 0.5) * side - 0.5).clip(2, side - 4) for place in (y, x))
    return moved, between_pixels(plain, rows, columns)


@MOVES
def test_flow(
    checkpoint: Checkpoint, transform: list[dict[str, Any]], angle: float, shift: tuple[float, float]
) -> None:
    moved, expected = moved_and_expected(Renderer(checkpoint, "cpu"), transform, angle, shift)
    assert np.abs(residual_flow(moved, expected)).max() < 0.02
    wrong = np.abs(residual_flow(moved, np.roll(expected, 1, axis=1)))
    assert np.median(wrong[:, 1]) == pytest.approx(1, abs=0.3)  # a pixel would be seen


@MOVES
def test_flow_of_the_bundled_network(transform: list[dict[str, Any]], angle: float, shift: tuple[float, float]) -> None:
    """At 256²: smaller images have so few pixels for its edges that splines between them are further off themselves."""
    renderer = Renderer(Checkpoint.open(DEMO), "cpu")
    moved, expected = moved_and_expected(renderer, transform, angle, shift, side=256)
    assert np.abs(residual_flow(moved, expected)).max() < 0.02
