"""Images of seeds by IIIF, rendered by a function of the position and by a real worker: at their size, never scaled."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from service.imaging.encode import encode
from service.queue.messages import Priority, RenderResult, WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import run_gateway, settings

RESOLUTION = 16


@dataclass
class Service:
    """``http`` serves the model ``tiny``, whose images ``draw`` renders without it."""

    http: httpx.Client
    checkpoint: Checkpoint
    draw: Callable[[RenderSpec], NDArray[np.uint8]]

    def pixels(self, path: str) -> NDArray[np.uint8]:
        with Image.open(BytesIO(fetch(self, path).content)) as image:
            return np.asarray(image)

    def render(self, viewport: Viewport) -> NDArray[np.uint8]:
        return self.draw(RenderSpec(self.checkpoint.digest, Latent(seed=3), viewport))


def fetch(service: Service, path: str) -> httpx.Response:
    answer = service.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer


def waves(spec: RenderSpec) -> NDArray[np.uint8]:
    """Pixels [h, w, 3] that are a smooth function of their network coordinates, averaged as by a renderer."""
    viewport = spec.viewport
    x, y, w, h = viewport.crop
    across, down = viewport.supersampling(RESOLUTION)
    columns = viewport.columns(x * across, (x + w) * across, RESOLUTION, across)
    rows = viewport.rows(y * down, (y + h) * down, RESOLUTION, down)[:, None]
    channels = [np.sin(5 * columns + rows), np.sin(7 * rows - columns), np.cos(9 * columns * rows)]
    values = np.stack(channels, -1).reshape(h, down, w, across, 3).mean(axis=(1, 3))
    return np.asarray(127.5 * values + 128).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=["waves", pytest.param("network", marks=pytest.mark.slow)])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    serve = {"waves": serve_waves, "network": serve_network}[request.param]
    yield from serve(tmp_path_factory.mktemp("models"))


def serve_waves(folder: Path) -> Iterator[Service]:
    checkpoint = save_hollow_checkpoint(folder, "tiny", GeneratorConfig(RESOLUTION))

    async def render(spec: RenderSpec, timeout: float, priority: Priority = "interactive") -> RenderResult:  # noqa: ASYNC109
        return RenderResult(encode(waves(spec), spec.encoding), 0, 0, 0, "fp32")

    with run_gateway(folder, settings()) as gateway:
        gateway.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", ())]
        gateway.queue.render = render  # type: ignore[method-assign, assignment]
        yield Service(gateway.http, checkpoint, waves)


def serve_network(folder: Path) -> Iterator[Service]:
    import torch

    from kernels.renderer import Renderer
    from model.checkpoint import save_checkpoint
    from model.generator import Generator
    from tests.service.commands.test_serve import TINY, serve

    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_checkpoint(path, Generator(TINY))
    checkpoint = Checkpoint.open(path)
    with serve(folder) as running:
        running.wait_until_ready()
        yield Service(running.http, checkpoint, Renderer(checkpoint, "cpu").render)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_tile_is_the_file_of_a_crop(service: Service, suffix: str) -> None:
    """Also of a level that is smaller than the image: the whole has 750 pixels a side there."""
    tile = fetch(service, f"/iiif/3/tiny:3:size=3000/1024,2048,1024,952/256,238/0/default.{suffix}")
    name = {"jpg": "jpeg"}.get(suffix, suffix)
    crop = fetch(service, f"/v1/images/tiny/3.{name}?width=750&height=750&crop=256,512,256,238&metadata=none")
    assert tile.content == crop.content
    assert tile.headers["ETag"] == crop.headers["ETag"]
    assert tile.headers["Content-Type"] == crop.headers["Content-Type"]


def test_tiles_side_by_side_are_the_whole_image(service: Service) -> None:
    """300 pixels in tiles of 128, the last of them smaller, as a viewer puts them together."""
    whole = np.zeros((300, 300, 3), np.uint8)
    for y in range(0, 300, 128):
        for x in range(0, 300, 128):
            w, h = min(128, 300 - x), min(128, 300 - y)
            path = f"/iiif/3/tiny:3:size=300/{x},{y},{w},{h}/{w},{h}/0/default.png"
            whole[y : y + h, x : x + w] = service.pixels(path)
    assert whole.std() > 1
    assert np.array_equal(whole, service.render(Viewport.resolve(300, 300)))


def test_above_its_size_an_image_is_rendered(service: Service) -> None:
    larger = service.pixels("/iiif/3/tiny:3:size=40/10,10,20,20/^400,400/0/default.png")
    assert np.array_equal(larger, service.render(Viewport.resolve(800, 800, crop=(200, 200, 400, 400))))
    scaled = Image.fromarray(service.render(Viewport.resolve(40, 40, crop=(10, 10, 20, 20)))).resize((400, 400))
    assert not np.array_equal(larger, np.asarray(scaled))


def test_below_the_networks_size_detail_is_averaged(service: Service) -> None:
    small = service.pixels("/iiif/3/tiny:3/full/4,4/0/default.png")
    assert np.array_equal(small, service.render(Viewport.resolve(4, 4)))
    full = service.render(Viewport.resolve(RESOLUTION, RESOLUTION)).astype(float)
    means = full.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - means).max() < 1.5  # each is cut to integers once


@pytest.mark.parametrize(("region", "size"), [("100,50,301,203", "77,91"), ("pct:12.5,20,33,41", "!64,64")])
def test_any_region_at_any_size(service: Service, region: str, size: str) -> None:
    """If no whole image has such a crop, the region is rendered as an image of its own, distorted if requested."""
    image = service.pixels(f"/iiif/3/tiny:3:size=1000/{region}/{size}/0/default.png")
    x, y, w, h = (125, 200, 330, 410) if region.startswith("pct:") else map(int, region.split(","))
    shown = (x / 1000, y / 1000, (x + w) / 1000, (y + h) / 1000)
    assert np.array_equal(image, service.render(Viewport.resolve(image.shape[1], image.shape[0], shown)))


def test_rotated_mirrored_and_without_colour(service: Service) -> None:
    base = "/iiif/3/tiny:3:size=200/20,40,120,60/max"
    plain = service.pixels(f"{base}/0/default.png")
    assert np.array_equal(service.pixels(f"{base}/90/color.png"), np.rot90(plain, -1))
    assert np.array_equal(service.pixels(f"{base}/!0/default.png"), plain[:, ::-1])
    assert np.array_equal(service.pixels(f"{base}/!270/default.png"), np.rot90(plain[:, ::-1], 1))
    gray = service.pixels(f"{base}/180/gray.png")
    luma = np.rot90(plain, 2) @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in Pillow
    assert gray.ndim == 2
    assert np.abs(gray - luma).max() <= 1
    bitonal = service.pixels(f"{base}/0/bitonal.png")
    assert set(np.unique(bitonal)) <= {False, True}
    assert abs(bitonal.mean() * 255 - (plain @ [0.299, 0.587, 0.114]).mean()) < 8  # dithered: the mean stays
