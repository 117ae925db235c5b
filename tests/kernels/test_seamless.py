"""Seamless pictures repeat exactly, and have no step at the seam."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.renderer import BackendName, Renderer
from model.geometry.transforms import parse_transforms
from model.geometry.wrap import Axes, Wrap
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from tests.kernels.native.available import CAN_COMPILE
from tests.kernels.networks import random_checkpoint

BACKENDS: tuple[BackendName, ...] = ("native", "cpu", "reference") if CAN_COMPILE else ("cpu", "reference")


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[BackendName, Renderer]:
    checkpoint = random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.3)
    return {backend: Renderer(checkpoint, "cpu", backend, threads=2) for backend in BACKENDS}


def render(renderer: Renderer, size: tuple[int, int], wrap: Wrap | None, **viewport: Any) -> NDArray[np.uint8]:
    return renderer.render(RenderSpec("random", Latent(seed=1), Viewport.resolve(*size, wrap=wrap, **viewport)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("axes", ["x", "y", "xy"])
def test_half_a_period_further(backend: BackendName, axes: Axes, renderers: dict[BackendName, Renderer]) -> None:
    """Rolled by half a period: the same bytes, rolled. Blocks begin at the same places."""
    x, y = ("x" in axes) / 2, ("y" in axes) / 2
    here = render(renderers[backend], (128, 128), Wrap(axes), region=(0, 0, 1, 1))
    further = render(renderers[backend], (128, 128), Wrap(axes), region=(x, y, 1 + x, 1 + y))
    assert np.array_equal(further, np.roll(here, (-int(128 * y), -int(128 * x)), axis=(0, 1)))


def test_no_step_at_the_seam(renderers: dict[BackendName, Renderer]) -> None:
    image = render(renderers[BACKENDS[0]], (256, 256), Wrap("xy"), region=(0, 0, 1, 1)).astype(int)
    plain = render(renderers[BACKENDS[0]], (256, 256), None, region=(0, 0, 1, 1)).astype(int)
    for axis in (0, 1):
        inside = np.abs(np.diff(image, axis=axis)).mean()
        seam = np.abs(image.take(0, axis) - image.take(-1, axis)).mean()
        assert seam <= 1.5 * inside
        assert np.abs(plain.take(0, axis) - plain.take(-1, axis)).mean() > 3 * seam
    assert np.abs(image[:179, :179] - plain[:179, :179]).max() <= 1  # the rest of the period is the picture


@pytest.mark.parametrize("backend", BACKENDS)
def test_tiles_at_the_seam(backend: BackendName, renderers: dict[BackendName, Renderer]) -> None:
    """Also where pixels are averages."""
    renderer = renderers[backend]
    for size, region in (((150, 90), (0.5, 0.5, 2, 1.4)), ((12, 12), (-1.0, -1.0, 2.0, 2.0))):
        whole = render(renderer, size, Wrap("xy"), region=region)
        x, y, w, h = size[0] // 3, size[1] // 4, size[0] // 2, size[1] // 2
        part = render(renderer, size, Wrap("xy"), region=region, crop=(x, y, w, h))
        assert np.array_equal(part, whole[y : y + h, x : x + w])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_turned_seam(backend: BackendName, renderers: dict[BackendName, Renderer]) -> None:
    """A shift by a whole period changes nothing, also where pixels lie anywhere."""
    renderer = renderers[backend]
    turned, shifted = (
        render(renderer, (64, 64), Wrap("x"), transform=parse_transforms([{"translate": [shift, 0]}, {"rotate": 20}]))
        for shift in (0.6, 1.6)
    )
    assert np.abs(turned.astype(int) - shifted).max() <= 1
    panorama = render(renderer, (64, 64), Wrap("x"), transform=parse_transforms([{"cylinder": {"yaw": 180}}]))
    steps = np.abs(np.diff(panorama.astype(int), axis=1)).mean(axis=(0, 2))
    assert steps[31] <= 3 * steps.mean()  # the seam is in the middle


def test_a_mirror(renderers: dict[BackendName, Renderer]) -> None:
    image = render(renderers[BACKENDS[0]], (128, 64), Wrap("x", "mirror"), region=(0, 0, 2, 1))
    assert np.array_equal(image[:, :64], render(renderers[BACKENDS[0]], (64, 64), None))
    assert np.array_equal(image[:, 64:], image[:, 63::-1])
