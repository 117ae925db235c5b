"""The bundled demo network: it is there, small enough to ship, and keeps its promise at every scale."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from service.cli import main
from service.models.catalog import DEMO

MAX_BYTES = 16 * 2**20


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(Checkpoint.open(DEMO), "cpu")


def draw(renderer: Renderer, seed: int, side: int) -> NDArray[np.float64]:
    spec = RenderSpec("demo", Latent(seed=seed, psi=0.7), Viewport.resolve(side, side))
    return renderer.render(spec).astype(np.float64)


def test_it_is_small_enough_to_ship(renderer: Renderer) -> None:
    assert DEMO.stat().st_size <= MAX_BYTES
    assert renderer.config.resolution >= 64


def test_commands_know_it_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "demo"]) == 0
    assert "64" in capsys.readouterr().out


def test_seeds_draw_different_images_of_the_same_kind(renderer: Renderer) -> None:
    images = np.stack([draw(renderer, seed, 64) for seed in range(12)])
    assert images.std(axis=0).mean() > 8  # levels: they differ …
    corners = images[:, :4, :4].mean(axis=(1, 2, 3))
    assert np.median(corners) > 230  # … but all are heads before white


def test_sixteen_times_the_pixels_show_the_same_image(renderer: Renderer) -> None:
    """Averaged down, 256² is the native 64² within what the network itself changes inside a pixel."""
    for seed in range(3):
        native, large = draw(renderer, seed, 64), draw(renderer, seed, 256)
        averaged = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
        assert np.abs(averaged - native).mean() < 4  # levels
