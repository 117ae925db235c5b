"""Pictures that move follow the exact optical flow: what is left of it is far below a pixel."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.evaluation.equivariance import lanczos
from model.geometry.transforms import parse_transforms
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from tests.kernels.networks import random_checkpoint

Levels = NDArray[np.float64]

SIDE, BLOCK = 128, 16


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.1)


def luma(renderer: Renderer, transform: list[dict[str, Any]]) -> Levels:
    viewport = Viewport.resolve(SIDE, SIDE, transform=parse_transforms(transform))
    colours = renderer.render(RenderSpec("random", Latent(seed=1), viewport, Encoding("npy")))
    levels: Levels = colours.mean(axis=2, dtype=np.float64)
    return levels


def residual_flow(moved: Levels, expected: Levels) -> Levels:
    """Pixels [blocks, 2] by which blocks of two nearly equal images are shifted (Lucas and Kanade 1981)."""
    y, x = np.gradient(expected)
    flows = []
    for top in range(2 * BLOCK, SIDE - 2 * BLOCK, BLOCK):
        for left in range(2 * BLOCK, SIDE - 2 * BLOCK, BLOCK):
            block = np.s_[top : top + BLOCK, left : left + BLOCK]
            slopes = np.stack([y[block].ravel(), x[block].ravel()], axis=1)
            flows.append(np.linalg.lstsq(slopes, (expected - moved)[block].ravel(), rcond=None)[0])
    return np.array(flows)


@pytest.mark.parametrize(
    ("transform", "angle", "shift"),
    [
        ([{"translate": [0.0123, -0.0071]}], 0.0, (0.0123, -0.0071)),
        ([{"rotate": 7}], math.radians(7), (0.0, 0.0)),
        ([{"rotate": -100}], math.radians(-100), (0.0, 0.0)),
    ],
    ids=["pan", "turn", "far"],
)
def test_flow(
    checkpoint: Checkpoint, transform: list[dict[str, Any]], angle: float, shift: tuple[float, float]
) -> None:
    renderer = Renderer(checkpoint, "cpu")
    plain, moved = luma(renderer, []), luma(renderer, transform)
    y, x = (np.indices((SIDE, SIDE)) + 0.5) / SIDE - 0.5
    x, y = x - shift[0], y - shift[1]
    x, y = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    rows, columns = (((place + 0.5) * SIDE - 0.5).clip(2, SIDE - 4) for place in (y, x))
    expected = lanczos(plain[..., None], rows.ravel(), columns.ravel()).reshape(SIDE, SIDE)
    assert np.abs(residual_flow(moved, expected)).max() < 0.02
    wrong = np.abs(residual_flow(moved, np.roll(expected, 1, axis=1)))
    assert np.median(wrong[:, 1]) == pytest.approx(1, abs=0.3)  # a pixel would be seen
