"""Warped images: what the network says at each pixel's own coordinates, and the same bytes in every part."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.block_warp import PAGE, Places, nearest_lines, spline_weights
from kernels.line_cache import LineCache
from kernels.renderer import BackendName, Renderer
from model.checkpoint import Checkpoint
from model.geometry.transforms import parse_transforms
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from tests.kernels.direct import direct_colours, to_levels
from tests.kernels.native.available import CAN_COMPILE
from tests.kernels.networks import TINY, random_checkpoint

BACKENDS: tuple[BackendName, ...] = ("native", "cpu", "reference") if CAN_COMPILE else ("cpu", "reference")
FASTEST = BACKENDS[0]
R = TINY.resolution

WARPS: dict[str, list[dict[str, Any]]] = {
    "rotate": [{"rotate": 30}],
    "several": [{"scale": [1.5, 0.9]}, {"rotate": -50}, {"translate": [0.2, 0.1]}, {"shear": [0.3, 0.1]}],
    "perspective": [{"perspective": [1, 0.1, 0, 0, 1, 0, 0.5, 0.2, 1]}],
    "lens": [{"lens": {"k1": -0.2, "k2": 0.05}}],
    "swirl": [{"swirl": {"degrees": 120}}],
    "cylinder": [{"cylinder": {"fov": 120}}],
    "mesh": [{"mesh": {"rows": 2, "columns": 2, "points": [[0, 0], [1, 0.1], [0.2, 1], [1, 1]]}}],
}


def make_spec(transform: list[dict[str, Any]], width: int, height: int, **viewport: Any) -> RenderSpec:
    resolved = Viewport.resolve(width, height, transform=parse_transforms(transform), **viewport)
    return RenderSpec("random", Latent(seed=1), resolved)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def renderers(checkpoint: Checkpoint) -> dict[BackendName, Renderer]:
    return {backend: Renderer(checkpoint, "cpu", backend, threads=2) for backend in BACKENDS}


class TestFaithfulness:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("warp", WARPS)
    def test_direct_evaluation(self, backend: BackendName, warp: str, renderers: dict[BackendName, Renderer]) -> None:
        spec = make_spec(WARPS[warp], 5 * R, 4 * R, crop=(20, 10, 40, 40), region=(0.0, 0.0, 1.0, 1.0))
        assert spec.viewport.rendered_pixels(R) == 40 * 40  # one sample a pixel
        self.check(renderers[backend], spec)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_averages_of_several_samples(self, backend: BackendName, renderers: dict[BackendName, Renderer]) -> None:
        spec = make_spec([{"rotate": 30}], 8, 8)
        assert spec.viewport.rendered_pixels(R) == 8 * 8 * 4
        self.check(renderers[backend], spec, samples=2)

    @pytest.mark.parametrize("outside", ["extend", "clamp", "mirror", "wrap", "fill"])
    def test_outside_of_the_square(self, outside: str, renderers: dict[BackendName, Renderer]) -> None:
        spec = make_spec([{"rotate": 30}, {"scale": 0.6}], 40, 40, outside=outside)
        self.check(renderers[FASTEST], spec)

    def check(self, renderer: Renderer, spec: RenderSpec, samples: int = 1) -> None:
        expected = direct_colours(renderer.checkpoint.load(), spec.latent, spec.viewport, samples)
        found = renderer.render(spec)
        levels = to_levels(expected)
        assert np.abs(found.astype(int) - levels).max() <= 1
        assert (found != levels).mean() < 0.15
        assert levels.std() > 5

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_colours_before_quantisation(self, backend: BackendName, renderers: dict[BackendName, Renderer]) -> None:
        """At least 60 dB from the network in fp64."""
        spec = make_spec([{"rotate": 33}], 3 * R, 3 * R)
        expected = direct_colours(renderers[backend].checkpoint.load(), spec.latent, spec.viewport)
        found = renderers[backend].render(replace(spec, encoding=Encoding("npy")))
        assert np.square(found - expected).mean() < 2.0**2 * 1e-6


class TestSameBytes:
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_quarter_turns_and_mirrors(self, backend: BackendName, renderers: dict[BackendName, Renderer]) -> None:
        renderer = renderers[backend]
        plain = renderer.render(make_spec([], 70, 70))
        for turns in range(1, 4):
            turned = renderer.render(make_spec([{"rotate": 90 * turns}], 70, 70))
            assert np.array_equal(turned, np.rot90(plain, -turns))
        assert np.array_equal(renderer.render(make_spec([{"scale": [-1, 1]}], 70, 70)), plain[:, ::-1])
        assert np.array_equal(renderer.render(make_spec([{"rotate": 720}], 70, 70)), plain)

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("transform", [[{"rotate": 90}], [{"rotate": 25}]])
    def test_parts_bands_and_batches(
        self,
        backend: BackendName,
        transform: list[dict[str, Any]],
        renderers: dict[BackendName, Renderer],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("kernels.renderer.STRIP_PIXELS", 64)
        renderer = renderers[backend]
        spec = make_spec(transform, 70, 75, outside="mirror")
        whole = renderer.render(spec)
        fresh = Renderer(renderer.checkpoint, "cpu", backend, threads=1)
        for x, y, w, h in ((17, 3, 20, 70), (60, 60, 10, 15), (69, 74, 1, 1)):
            part = fresh.render(make_spec(transform, 70, 75, crop=(x, y, w, h), outside="mirror"))
            assert np.array_equal(part, whole[y : y + h, x : x + w])
        bands = list(fresh.bands(spec))
        assert len(bands) == 2
        assert np.array_equal(np.concatenate(bands), whole)
        plain, batched = renderer.render_batch([make_spec([], 30, 20), spec])
        assert np.array_equal(plain, renderer.render(make_spec([], 30, 20)))
        assert np.array_equal(batched, whole)

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_parts_of_averages(self, backend: BackendName, renderers: dict[BackendName, Renderer]) -> None:
        """Blocks of different numbers of samples."""
        transform: list[dict[str, Any]] = [{"lens": {"k1": 0.9}}, {"scale": 0.7}]
        whole = renderers[backend].render(make_spec(transform, 40, 30))
        fresh = Renderer(renderers[backend].checkpoint, "cpu", backend, threads=1)
        part = fresh.render(make_spec(transform, 40, 30, crop=(10, 5, 29, 25)))
        assert np.array_equal(part, whole[5:, 10:39])

    @pytest.mark.parametrize("warp", ["rotate", "swirl"])
    def test_large_tiles_and_small_ones(
        self, warp: str, renderers: dict[BackendName, Renderer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a large image and its part; and with hardly any memory for lines that tiles share."""
        renderer = Renderer(renderers[FASTEST].checkpoint, "cpu", FASTEST, threads=1)
        whole = renderer.render(make_spec(WARPS[warp], 300, 310))
        part = renderer.render(make_spec(WARPS[warp], 300, 310, crop=(100, 120, 90, 70)))
        assert np.array_equal(part, whole[120:190, 100:190])
        monkeypatch.setattr("kernels.block_warp.SHARED_PAGES", 1)
        assert np.array_equal(renderers[FASTEST].render(make_spec(WARPS[warp], 300, 310)), whole)

    def test_a_picture_that_turns_computes_no_lines(
        self, renderers: dict[BackendName, Renderer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = LineCache(2**30)
        monkeypatch.setattr("kernels.block_renderer.host_cache", lambda: cache)
        renderer = Renderer(renderers[FASTEST].checkpoint, "cpu", FASTEST, threads=2)
        renderer.render(make_spec([{"rotate": 45}], 40, 40))
        kept = cache.bytes
        for degrees in (10, 30, 100):
            renderer.render(make_spec([{"rotate": degrees}], 40, 40))
        assert cache.bytes == kept > 0


def test_progress_adds_up_to_the_cost(renderers: dict[BackendName, Renderer]) -> None:
    for transform in ([{"rotate": 30}], [{"rotate": 90}]):
        spec = make_spec(transform, 150, 140, crop=(10, 20, 120, 110))
        done: list[int] = []
        renderers["cpu"].render(spec, done.append)
        assert sum(done) == renderers["cpu"].cost(spec)


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=20), st.integers(64, 40_000))
def test_splines_give_back_cubics(numbers: list[float], density: int) -> None:
    coordinates = np.array(numbers)
    first, fraction = nearest_lines(coordinates, density)
    lines, weights = (first[:, None] + np.arange(4)) / density, spline_weights(fraction)
    assert weights.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (weights * lines**2).sum(axis=1) == pytest.approx(coordinates**2, abs=4 / density**2 + 1e-5)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.integers(64, 40_000))
def test_only_pages_with_needed_lines_are_asked_for(numbers: list[float], density: int) -> None:
    """Also where neighbouring samples lie far apart, as at a seam."""
    coordinates = np.array(numbers)
    places, (lines, fraction) = Places.find(coordinates, density), nearest_lines(coordinates, density)
    needed = {int(line) // PAGE for first in lines for line in range(first, first + 4)}
    assert places.pages.tolist() == sorted(needed)
    for tap in range(4):
        index = places.first + tap
        assert np.array_equal(places.pages[index // PAGE] * PAGE + index % PAGE, lines + tap)
    assert np.array_equal(places.fraction, fraction)
