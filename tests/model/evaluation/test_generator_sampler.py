"""Pictures of a torch module against those of the renderer and of the module itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.renderer import Renderer
from model import drawing
from model.evaluation.network import GeneratorDrawer
from model.spec import Latent, RenderSpec
from model.viewport import Grid, Viewport
from tests.kernels.networks import TINY, VARIANTS, random_checkpoint, random_network

VIEWPORTS = {
    "native": Viewport.resolve(16, 16),
    "larger": Viewport.resolve(50, 50),
    "larger, corner to corner": Viewport.resolve(50, 50, grid="corners"),
    "smaller, so averaged": Viewport.resolve(7, 5),
    "smaller, corner to corner": Viewport.resolve(7, 5, grid="corners"),
    "crop of a large one": Viewport.resolve(400, 400, crop=(130, 201, 31, 17)),
    "averaged crop": Viewport.resolve(6, 6, crop=(1, 2, 3, 4)),
}


@pytest.mark.parametrize("viewport", VIEWPORTS.values(), ids=VIEWPORTS)
@pytest.mark.parametrize("pixels_at_once", [1, 300, 2**18])
def test_renders_what_the_renderer_does(
    viewport: Viewport, pixels_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "PIXELS_AT_ONCE", pixels_at_once)
    checkpoint = random_checkpoint(tmp_path)
    renderer = Renderer(checkpoint, "cpu", "reference")
    drawn = GeneratorDrawer(checkpoint.load(), psi=0.6)([3, 8], viewport)
    for seed, picture in zip((3, 8), drawn, strict=True):
        expected = renderer.render(RenderSpec("", Latent(seed, psi=0.6), viewport))
        assert picture.shape == expected.shape
        # Levels are cut to integers there, and those of an average may lie on the other side of one.
        assert np.abs(picture - expected - 0.5).max() <= 0.5 + 1e-2


def test_classes() -> None:
    generator = random_network(VARIANTS["conditional"])
    viewport = Viewport.resolve(16, 16, grid="corners")
    drawn = GeneratorDrawer(generator, [2, 0, 2, 1])([3, 1], viewport)
    z = torch.from_numpy(np.concatenate([Latent(seed).draw_z(16) for seed in (3, 1)]))
    expected = generator(z, torch.eye(3)[[1, 0]]) * 127.5 + 128
    assert np.allclose(np.stack(drawn), expected.clamp(0, 255).permute(0, 2, 3, 1), atol=1e-2)


@pytest.mark.parametrize("grid", ["centers", "corners"])
def test_values_that_are_no_numbers_become_0(grid: Grid) -> None:
    generator = random_network(TINY)
    generator.synthesis.to_rgb.bias[1] = torch.nan
    (picture,) = GeneratorDrawer(generator)([0], Viewport.resolve(16, 16, grid=grid))
    assert np.isfinite(picture).all()
    assert not picture[..., 1].any()
    assert picture[..., 0].any()
