"""IIIF by the whole service with a real worker: what is answered is drawn at its size, never scaled."""

from collections.abc import Iterator
from io import BytesIO

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint, save_checkpoint
from model.generator import Generator
from model.spec import Latent, RenderSpec
from model.viewport import Viewport
from tests.service.test_serve import TINY, serve


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    save_checkpoint(path, Generator(TINY))
    return Checkpoint.open(path)


@pytest.fixture(scope="module")
def http(checkpoint: Checkpoint) -> Iterator[httpx.Client]:
    with serve(checkpoint.path.parent) as service:
        service.wait_until_ready()
        yield service.http


def fetch(http: httpx.Client, path: str) -> httpx.Response:
    answer = http.get(path)
    assert answer.status_code == 200, answer.text
    return answer


def pixels_of(answer: httpx.Response) -> NDArray[np.uint8]:
    with Image.open(BytesIO(answer.content)) as picture:
        return np.asarray(picture)


def render(checkpoint: Checkpoint, viewport: Viewport) -> NDArray[np.uint8]:
    return Renderer(checkpoint, "cpu").render(RenderSpec(checkpoint.digest, Latent(seed=3), viewport))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_tile_is_the_file_of_a_crop(http: httpx.Client, suffix: str) -> None:
    """Also of a level that is smaller than the picture: the whole has 750 pixels a side there."""
    tile = fetch(http, f"/iiif/3/tiny:3:size=3000/1024,2048,1024,952/256,238/0/default.{suffix}")
    name = {"jpg": "jpeg"}.get(suffix, suffix)
    crop = fetch(http, f"/v1/images/tiny/3.{name}?width=750&height=750&crop=256,512,256,238")
    assert tile.content == crop.content
    assert tile.headers["ETag"] == crop.headers["ETag"]
    assert tile.headers["Content-Type"] == crop.headers["Content-Type"]


def test_tiles_side_by_side_are_the_whole_picture(http: httpx.Client, checkpoint: Checkpoint) -> None:
    """300 pixels in tiles of 128, the last of them smaller, as a viewer puts them together."""
    whole = np.zeros((300, 300, 3), np.uint8)
    for y in range(0, 300, 128):
        for x in range(0, 300, 128):
            w, h = min(128, 300 - x), min(128, 300 - y)
            tile = fetch(http, f"/iiif/3/tiny:3:size=300/{x},{y},{w},{h}/{w},{h}/0/default.png")
            whole[y : y + h, x : x + w] = pixels_of(tile)
    assert whole.std() > 1
    assert np.array_equal(whole, render(checkpoint, Viewport.resolve(300, 300)))


def test_above_its_size_a_picture_is_drawn(http: httpx.Client, checkpoint: Checkpoint) -> None:
    larger = pixels_of(fetch(http, "/iiif/3/tiny:3:size=40/10,10,20,20/^400,400/0/default.png"))
    assert np.array_equal(larger, render(checkpoint, Viewport.resolve(800, 800, crop=(200, 200, 400, 400))))
    scaled = Image.fromarray(render(checkpoint, Viewport.resolve(40, 40, crop=(10, 10, 20, 20)))).resize((400, 400))
    assert not np.array_equal(larger, np.asarray(scaled))


def test_below_the_networks_size_detail_is_averaged(http: httpx.Client, checkpoint: Checkpoint) -> None:
    small = pixels_of(fetch(http, "/iiif/3/tiny:3/full/4,4/0/default.png"))
    assert np.array_equal(small, render(checkpoint, Viewport.resolve(4, 4)))
    full = render(checkpoint, Viewport.resolve(16, 16)).astype(float)  # at the training resolution
    means = full.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 1.5  # each is cut to whole numbers once


@pytest.mark.parametrize(("region", "size"), [("100,50,301,203", "77,91"), ("pct:12.5,20,33,41", "!64,64")])
def test_any_region_at_any_size(http: httpx.Client, checkpoint: Checkpoint, region: str, size: str) -> None:
    """Where no whole picture has such a crop, the region is drawn as a picture of its own, distorted if asked."""
    answer = fetch(http, f"/iiif/3/tiny:3:size=1000/{region}/{size}/0/default.png")
    x, y, w, h = (125, 200, 330, 410) if region.startswith("pct:") else map(int, region.split(","))
    picture = pixels_of(answer)
    shown = (x / 1000, y / 1000, (x + w) / 1000, (y + h) / 1000)
    assert np.array_equal(picture, render(checkpoint, Viewport.resolve(picture.shape[1], picture.shape[0], shown)))


def test_turned_mirrored_and_without_colour(http: httpx.Client) -> None:
    base = "/iiif/3/tiny:3:size=200/20,40,120,60/max"
    plain = pixels_of(fetch(http, f"{base}/0/default.png"))
    assert np.array_equal(pixels_of(fetch(http, f"{base}/90/color.png")), np.rot90(plain, -1))
    assert np.array_equal(pixels_of(fetch(http, f"{base}/!0/default.png")), plain[:, ::-1])
    assert np.array_equal(pixels_of(fetch(http, f"{base}/!270/default.png")), np.rot90(plain[:, ::-1], 1))
    gray = pixels_of(fetch(http, f"{base}/180/gray.png"))
    luma = np.rot90(plain, 2) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow has it
    assert gray.ndim == 2
    assert np.abs(gray - luma).max() <= 1
    bitonal = pixels_of(fetch(http, f"{base}/0/bitonal.png"))
    assert set(np.unique(bitonal)) <= {False, True}
    assert abs(bitonal.mean() * 255 - (plain @ [0.299, 0.587, 0.114]).mean()) < 8  # dithered: the mean stays
