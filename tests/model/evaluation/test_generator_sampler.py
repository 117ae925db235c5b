"""Images of a torch module against those of the renderer and of the module itself."""

import numpy as np
import pytest
import torch

from kernels.renderer import Renderer
from model import render
from model.evaluation.generator_sampler import GeneratorSampler
from model.latents.latent import Latent
from model.spec import RenderSpec
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


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer(random_checkpoint(tmp_path_factory.mktemp("renderer")), "cpu", "reference")


@pytest.mark.parametrize(
    ("name", "max_pixels"), [*((name, 300) for name in VIEWPORTS), ("averaged crop", 1), ("larger", 1 << 18)]
)
def test_renders_what_the_renderer_does(
    renderer: Renderer, name: str, max_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "MAX_PIXELS", max_pixels)
    images = GeneratorSampler(renderer.checkpoint.load(), psi=0.6)([3, 8], VIEWPORTS[name])
    for seed, image in zip((3, 8), images, strict=True):
        expected = renderer.render(RenderSpec("", Latent(seed, psi=0.6), VIEWPORTS[name]))
        assert image.shape == expected.shape
        # Levels are truncated to integers there, and those of an average may lie on the other side of one.
        assert np.abs(image - expected - 0.5).max() <= 0.5 + 1e-2


def test_classes() -> None:
    generator = random_network(VARIANTS["conditional"])
    viewport = Viewport.resolve(16, 16, grid="corners")
    drawn = GeneratorSampler(generator, [2, 0, 2, 1])([3, 1], viewport)
    z = torch.from_numpy(np.concatenate([Latent(seed).sample_z(16) for seed in (3, 1)]))
    expected = generator(z, torch.eye(3)[[1, 0]]) * 127.5 + 128
    assert np.allclose(np.stack(drawn), expected.clamp(0, 255).permute(0, 2, 3, 1), atol=1e-2)


@pytest.mark.parametrize("grid", ["centers", "corners"])
def test_nan_becomes_0(grid: Grid) -> None:
    generator = random_network(TINY)
    generator.synthesis.to_rgb.bias[1] = torch.nan
    (image,) = GeneratorSampler(generator)([0], Viewport.resolve(16, 16, grid=grid))
    assert np.isfinite(image).all()
    assert not image[..., 1].any()
    assert image[..., 0].any()
