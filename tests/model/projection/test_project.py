"""Projection finds the latent of a picture."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.generator import Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles
from model.projection.loss import pyramid_loss
from model.projection.project import project
from model.projection.target import MAX_SIDE, Target, parse_target
from model.render import render
from model.viewport import Viewport
from service.models.catalog import DEMO
from tests.kernels.networks import TINY, random_network


def sample(generator: Generator, width: int, height: int, latent: Latent) -> Target:
    """An image of the network, as a PNG file holds it."""
    ws = layer_styles(generator.config, generator.mapping, latent)
    image = render(generator, ws, Viewport.resolve(width, height))[0]
    levels = (image * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return parse_target(png(levels))


def png(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def smooth_network() -> Generator:
    return random_network(TINY, frequencies=0.1)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (24, 12), (30, 30)])
def test_own_images_are_found(width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that is larger than a crop."""
    monkeypatch.setattr("model.projection.project.CROP", 24)
    generator = smooth_network()
    target = sample(generator, width, height, Latent(seed=3))
    mean, found = project(generator, target, steps=0), project(generator, target, steps=100)
    assert found.psnr >= found.psnr_w
    assert found.psnr > mean.psnr + 6
    assert found.psnr > 25


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 20])
def test_progress_grows_to_the_number_of_steps(steps: int) -> None:
    """The line search of L-BFGS may take more than are left."""
    generator, told = smooth_network(), list[int]()
    project(generator, sample(generator, 16, 16, Latent(seed=3)), steps, progress=lambda done, _: told.append(done))
    assert sorted(told) == told
    assert told[-1:] == ([steps] if steps else [])


def test_equal_bytes_when_repeated() -> None:
    target = sample(smooth_network(), 16, 16, Latent(seed=3))
    one, other = (project(smooth_network(), target, steps=10) for _ in range(2))
    assert one.ws.tobytes() == other.ws.tobytes()


def test_what_a_mask_hides_has_no_influence() -> None:
    generator = smooth_network()
    target = sample(generator, 16, 16, Latent(seed=3))
    known = target.known.copy()
    known[:, 10:] = 0
    painted = target.image.copy()
    painted[:, :, 10:] = 1
    one, other = (project(generator, Target(image, known), steps=10) for image in (target.image, painted))
    assert one.ws.tobytes() == other.ws.tobytes()
    assert one.psnr == other.psnr


def test_the_loss_is_zero_only_for_equal_pictures() -> None:
    known = torch.ones(1, 1, 20, 24)
    assert pyramid_loss(torch.zeros(1, 3, 20, 24), known) == 0
    pixel = torch.zeros(1, 3, 20, 24)
    pixel[0, 1, 7, 3] = 0.5
    assert pyramid_loss(pixel, known) > 0
    known[0, 0, 7, 3] = 0
    assert pyramid_loss(pixel, known) == 0


class TestTargets:
    def test_pictures_are_turned_upright(self) -> None:
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, :16] = 255
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned right
        image = parse_target(png(pixels, exif=exif)).image
        assert image.shape == (3, 32, 16)
        assert image[:, :16].min() == 1
        assert image[:, 16:].max() == -1

    def test_transparent_pixels_are_unknown(self) -> None:
        pixels = np.full((16, 16, 4), 255, np.uint8)
        pixels[:8, :, 3] = 0
        known = parse_target(png(pixels)).known
        assert not known[:8].any()
        assert known[8:].all()

    def test_large_pictures_are_averaged(self) -> None:
        assert parse_target(png(np.zeros((600, 1200, 3), np.uint8))).image.shape == (3, MAX_SIDE // 2, MAX_SIDE)

    @pytest.mark.parametrize(
        ("picture", "mask", "error"),
        [
            (b"", None, "picture: "),
            (b"\x89PNG\r\n\x1a\n", None, "picture: cannot be read"),
            (png(np.zeros((1, 1, 3), np.uint8)), None, "picture: must have at least 8 pixels a side"),
            (png(np.zeros((16, 16, 4), np.uint8)), None, "mask: must leave at least 64 pixels"),
            (png(np.zeros((16, 16, 3), np.uint8)), png(np.zeros((16, 17), np.uint8)), "mask: must have the picture's"),
            (png(np.zeros((16, 16, 3), np.uint8)), b"no image", "mask: cannot be read"),
        ],
    )
    def test_refused(self, picture: bytes, mask: bytes | None, error: str) -> None:
        with pytest.raises(InputError, match=error):
            parse_target(picture, mask)

    def test_decompression_bombs_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("model.data.images.MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(InputError, match=r"picture: .*more than 1000 pixels"):
            parse_target(png(np.zeros((100, 100, 3), np.uint8)))


@pytest.mark.slow
def test_images_of_the_demo_are_found() -> None:
    generator = Checkpoint.open(Path(DEMO)).load()
    found = project(generator, sample(generator, 64, 64, Latent(seed=2)), steps=200)
    assert found.psnr_w >= 30
    assert found.psnr >= 36
