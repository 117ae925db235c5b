"""The renderer draws what the network says, whichever backend draws it and however the work is cut."""

import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kernels.block_renderer
from kernels.block_renderer import BlockBackend
from kernels.cpu import CpuBackend
from kernels.line_cache import LineCache
from kernels.renderer import BackendName, Renderer
from model.checkpoint import Checkpoint, save_checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from model.generator import COLUMNS, ROWS, Generator
from model.geometry.transforms import parse_transforms
from model.latents.latent import Latent, pack_floats
from model.latents.styles import layer_styles
from model.spec import Encoding, RenderSpec
from model.util.device import find_device
from model.viewport import Grid, Viewport
from tests.kernels.native.available import CAN_COMPILE
from tests.kernels.networks import TINY, VARIANTS, random_checkpoint

BACKENDS: tuple[BackendName, ...] = ("native", "cpu", "reference") if CAN_COMPILE else ("cpu", "reference")
FASTEST = BACKENDS[0]


def make_spec(latent: Latent, width: int, height: int, **viewport: Any) -> RenderSpec:
    return RenderSpec("random", latent, Viewport.resolve(width, height, **viewport))


def draw_at_once(generator: Generator, spec: RenderSpec) -> NDArray[np.uint8]:
    """The whole picture as model.generator alone draws it, averaged and quantised."""
    viewport, resolution = spec.viewport, generator.config.resolution
    m_x, m_y = viewport.supersampling(resolution, generator.config.max_scale)
    rows = viewport.rows(0, viewport.height * m_y, resolution, m_y)
    columns = viewport.columns(0, viewport.width * m_x, resolution, m_x)
    colours = generator.synthesis(
        layer_styles(generator.config, generator.mapping, spec.latent),
        torch.from_numpy(rows),
        torch.from_numpy(columns),
    )
    averaged = torch.nn.functional.avg_pool2d(colours, (m_y, m_x))[0].permute(1, 2, 0)
    return (averaged * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()


def block_backend(renderer: Renderer) -> BlockBackend[Any]:
    assert isinstance(renderer._backend, BlockBackend)
    return renderer._backend


def largest_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def make_renderers(checkpoint: Checkpoint) -> dict[BackendName, Renderer]:
    return {backend: Renderer(checkpoint, "cpu", backend, threads=2) for backend in BACKENDS}


@pytest.fixture(scope="module")
def renderers(tmp_path_factory: pytest.TempPathFactory) -> dict[BackendName, Renderer]:
    return make_renderers(random_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def other_renderers(renderers: dict[BackendName, Renderer]) -> dict[BackendName, Renderer]:
    """The same again, with caches of their own."""
    return make_renderers(renderers["cpu"].checkpoint)


class TestAbandoning:
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_images_that_are_not_wanted_any_more_are_drawn_no_further(
        self, backend: BackendName, renderers: dict[BackendName, Renderer], other_renderers: dict[BackendName, Renderer]
    ) -> None:
        left, waiting = (make_spec(Latent(seed=seed), 64 * 40, 64) for seed in (11, 12))
        done: list[int] = []
        renderers[backend].render_batch([left], done.append, [lambda: not done])
        assert len(done) == 1
        assert renderers[backend].cost(left) > 2 * done[0]

        done.clear()
        _, image = renderers[backend].render_batch([left, waiting], done.append, [lambda: False, lambda: True])
        assert sum(done) == renderers[backend].cost(waiting)
        assert np.array_equal(image, other_renderers[backend].render(waiting))


class TestFaithfulness:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
    def test_every_kind_of_network(self, backend: BackendName, config: GeneratorConfig, tmp_path: Path) -> None:
        checkpoint = random_checkpoint(tmp_path, config)
        spec = make_spec(Latent(seed=3, class_index=2 if config.classes else None, psi=0.7, cutoff=4), 70, 45)
        drawn = Renderer(checkpoint, "cpu", backend, threads=2).render(spec)
        assert largest_difference(drawn, draw_at_once(checkpoint.load(), spec)) <= 1
        assert drawn.std() > 2

    @pytest.mark.parametrize(
        ("width", "height", "viewport"),
        [
            (1, 1, {}),
            (5, 40, {}),
            (7, 3, {"region": (0.0, 0.0, 1.0, 1.0)}),  # supersampled 3 × 6 times
            (2, 1, {"region": (-1.0, -1.0, 2.0, 2.0)}),  # supersampled 24 × 48 times
            (50, 30, {"region": (-0.7, 0.2, 1.9, 0.3)}),
            (50, 30, {"grid": "corners"}),
            (1, 9, {"grid": "corners", "region": (0.1, 0.2, 0.3, 0.4)}),
        ],
    )
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_viewports(
        self, backend: BackendName, width: int, height: int, viewport: Any, renderers: dict[BackendName, Renderer]
    ) -> None:
        spec = make_spec(Latent(seed=1), width, height, **viewport)
        generator = renderers[backend].checkpoint.load()
        assert largest_difference(renderers[backend].render(spec), draw_at_once(generator, spec)) <= 1

    def test_pixels_of_more_positions_than_a_block(self, tmp_path: Path) -> None:
        checkpoint = random_checkpoint(tmp_path, GeneratorConfig(64, 16, 24, 0, 2, 1024, 32))
        spec = make_spec(Latent(seed=1), 2, 1, region=(-1.0, -1.0, 2.0, 2.0))
        assert spec.viewport.supersampling(64) == (96, 192)
        drawn = Renderer(checkpoint, "cpu", "cpu").render(spec)
        assert largest_difference(drawn, draw_at_once(checkpoint.load(), spec)) <= 1

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_detail_of_patches_is_averaged(self, backend: BackendName, tmp_path: Path) -> None:
        """A network trained with patches is rendered at four times its resolution, and a crop has the same bytes."""
        checkpoint = random_checkpoint(tmp_path, replace(TINY, max_scale=4.0))
        renderer, whole = Renderer(checkpoint, "cpu", backend), make_spec(Latent(seed=1), 16, 20)
        assert whole.viewport.supersampling(16, 4.0) == (4, 4)
        drawn = renderer.render(whole)
        assert largest_difference(drawn, draw_at_once(checkpoint.load(), whole)) <= 1
        assert (renderer.render(make_spec(Latent(seed=1), 16, 20, crop=(3, 5, 7, 6))) == drawn[5:11, 3:10]).all()

    @pytest.mark.parametrize("form", ["z", "w", "w of every layer"])
    def test_given_latents(self, form: str, renderers: dict[BackendName, Renderer]) -> None:
        numbers = np.random.RandomState(5)
        latents = {
            "z": Latent(z=pack_floats(numbers.randn(TINY.z_dim)), psi=0.5),
            "w": Latent(w=pack_floats(numbers.randn(TINY.w_dim))),
            "w of every layer": Latent(w=pack_floats(numbers.randn(TINY.w_dim * TINY.num_ws))),
        }
        spec = make_spec(latents[form], 40, 40)
        generator = renderers["cpu"].checkpoint.load()
        assert largest_difference(renderers["cpu"].render(spec), draw_at_once(generator, spec)) <= 1

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("loud", [False, True])
    def test_numbers_before_quantisation(
        self, fused: bool, loud: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also with biases so large that every clamp cuts, and without oneDNN."""
        monkeypatch.setattr("kernels.cpu._FUSED", fused)
        checkpoint = random_checkpoint(tmp_path)
        generator = checkpoint.load()
        if loud:
            for name, parameter in generator.synthesis.named_parameters():
                if name.endswith("bias") and "affine" not in name:
                    parameter.mul_(2000)
        backend = CpuBackend(generator)
        latent = Latent(seed=1)
        style, ws = backend.style(latent), layer_styles(generator.config, generator.mapping, latent)
        positions = np.linspace(-0.2, 1.1, 64)
        lines = [backend.block_lines(style, positions, axis) for axis in (ROWS, COLUMNS)]
        expected_lines = [generator.synthesis.lines(ws, torch.from_numpy(positions), axis) for axis in (ROWS, COLUMNS)]
        for found, expected in zip(lines, expected_lines, strict=True):
            torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        colours = backend.block_colours(style, *lines).permute(2, 0, 1)
        expected = generator.synthesis.pixels(ws, *expected_lines)[0]
        assert float((colours - expected).norm() / expected.norm()) < 1e-5
        assert (float(expected.abs().max()) > 250) == loud

    @pytest.mark.parametrize("backend", BACKENDS[:-1])
    @pytest.mark.parametrize("axis", [ROWS, COLUMNS])
    def test_lines_are_the_networks(
        self, backend: BackendName, axis: int, renderers: dict[BackendName, Renderer]
    ) -> None:
        positions = np.linspace(0, 1, 150)
        found, expected = (renderers[name].lines(Latent(seed=2), positions, axis) for name in (backend, "reference"))
        assert found.shape == (TINY.bundles, 32, 150, TINY.thickness)
        tolerance = 2e-4 if renderers[backend].arithmetic.startswith("bf16x3") else 1e-5
        torch.testing.assert_close(found, expected, rtol=10 * tolerance, atol=tolerance)

    def test_what_is_not_a_number_becomes_black(self, tmp_path: Path) -> None:
        checkpoint = random_checkpoint(tmp_path)
        generator = checkpoint.load()
        for decoder in generator.synthesis.decoders:
            for parameter in decoder.parameters():
                parameter.mul_(1e30)
        loud = save_checkpoint(checkpoint.path, generator)
        for backend in BACKENDS:
            assert not Renderer(loud, "cpu", backend).render(make_spec(Latent(seed=0), 8, 8)).any()


class TestSameBytes:
    """A pixel has the same bytes however the work is cut."""

    @settings(max_examples=8, suppress_health_check=[HealthCheck.differing_executors])
    @given(data=st.data())
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_crops(
        self,
        backend: BackendName,
        renderers: dict[BackendName, Renderer],
        other_renderers: dict[BackendName, Renderer],
        data: st.DataObject,
    ) -> None:
        width, height = data.draw(st.integers(1, 140), "width"), data.draw(st.integers(1, 140), "height")
        x, y = data.draw(st.integers(0, width - 1), "x"), data.draw(st.integers(0, height - 1), "y")
        w, h = data.draw(st.integers(1, width - x), "w"), data.draw(st.integers(1, height - y), "h")
        grid: Grid = data.draw(st.sampled_from(["centers", "corners"]), "grid")
        edges = st.lists(st.floats(-1, 2), min_size=2, max_size=2, unique=True).map(sorted)
        (x0, x1), (y0, y1) = data.draw(edges.filter(_apart), "x0, x1"), data.draw(edges.filter(_apart), "y0, y1")
        region = data.draw(st.sampled_from([None, (x0, y0, x1, y1)]), "region")
        whole = renderers[backend].render(make_spec(Latent(seed=1), width, height, region=region, grid=grid))
        spec = make_spec(Latent(seed=1), width, height, region=region, grid=grid, crop=(x, y, w, h))
        crop = other_renderers[backend].render(spec)
        assert np.array_equal(crop, whole[y : y + h, x : x + w])

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_bands_threads_and_batches(
        self, backend: BackendName, renderers: dict[BackendName, Renderer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kernels.tiling.BLOCKS_PER_THREAD", 4)
        specs = [
            make_spec(Latent(seed=1), 300, 400, crop=(3, 5, 130, 390)),
            make_spec(Latent(seed=2), 30, 10),
            make_spec(Latent(seed=1), 9, 11),
            make_spec(Latent(seed=2), 30, 10, grid="corners"),
        ]
        renderer = renderers[backend]
        alone = [renderer.render(spec) for spec in specs]
        single = Renderer(renderer.checkpoint, "cpu", backend, threads=1)
        bands = [list(single.bands(spec)) for spec in specs]
        assert len(bands[0]) > 1
        several = Renderer(renderer.checkpoint, "cpu", backend, threads=3).render_batch(specs)
        for expected, band, batched in zip(alone, bands, several, strict=True):
            assert np.array_equal(np.concatenate(band), expected)
            assert np.array_equal(batched, expected)

    def test_images_wider_than_the_cache(
        self, renderers: dict[BackendName, Renderer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = make_spec(Latent(seed=1), 900, 130)
        expected = renderers[FASTEST].render(spec)
        limit = 512 * 4 * TINY.bundles * 32 * TINY.thickness  # the lines of 256 rows and 256 columns
        monkeypatch.setattr(kernels.block_renderer, "host_cache", lambda: LineCache(limit))
        renderer = Renderer(renderers[FASTEST].checkpoint, "cpu", FASTEST, threads=2)
        assert np.array_equal(np.concatenate(list(renderer.bands(spec))), expected)
        assert 0 < block_backend(renderer)._cache.bytes <= limit

    def test_lines_are_made_once_for_all_tiles_of_an_image(
        self, renderers: dict[BackendName, Renderer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kernels.block_renderer, "host_cache", lambda: LineCache(2**30))
        renderer = Renderer(renderers[FASTEST].checkpoint, "cpu", FASTEST, threads=2)
        backend, made = block_backend(renderer), []
        block_lines = backend.block_lines

        def counted(style: Any, positions: NDArray[np.float64], axis: int) -> torch.Tensor:
            made.append((axis, len(positions)))
            return block_lines(style, positions, axis)

        monkeypatch.setattr(backend, "block_lines", counted)
        for y in range(0, 512, 128):
            for x in range(0, 768, 256):
                renderer.render(make_spec(Latent(seed=1), 768, 512, crop=(x, y, 256, 128)))
        assert sorted(made) == [(ROWS, 64)] * (512 // 64) + [(COLUMNS, 64)] * (768 // 64)

    def test_far_corner_of_the_largest_image(
        self, renderers: dict[BackendName, Renderer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = LineCache(2**30)
        monkeypatch.setattr(kernels.block_renderer, "host_cache", lambda: cache)
        renderer = Renderer(renderers["cpu"].checkpoint, "cpu", "cpu", threads=2)
        size, side = 262_144, 100
        large = renderer.render(
            make_spec(Latent(seed=1), size, size, crop=(size - side, size - side, side, side), region=(0, 0, 1, 1))
        )
        small = renderer.render(
            make_spec(Latent(seed=1), size, size, crop=(size - 7, size - 20, 7, 13), region=(0, 0, 1, 1))
        )
        assert np.array_equal(small, large[80:93, 93:])
        lines_of_two_blocks_an_axis = 4 * 64 * 4 * TINY.bundles * 32 * TINY.thickness
        assert cache.bytes == lines_of_two_blocks_an_axis

    def test_callers_in_several_threads(
        self, renderers: dict[BackendName, Renderer], other_renderers: dict[BackendName, Renderer]
    ) -> None:
        renderer = other_renderers[FASTEST]
        specs = [make_spec(Latent(seed=seed), 90, 70) for seed in range(4)]
        expected = [renderers[FASTEST].render(spec) for spec in specs]
        found: dict[int, NDArray[np.uint8]] = {}
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: renderer.render(specs[i])})) for i in range(len(specs))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(found[i], expected[i]) for i in range(len(specs)))


def _apart(edges: list[float]) -> bool:
    return edges[1] - edges[0] > 0.05  # at most 960 positions for a picture one pixel wide


class TestProgress:
    def test_adds_up_to_the_cost(self, renderers: dict[BackendName, Renderer]) -> None:
        spec = make_spec(Latent(seed=1), 200, 300, crop=(10, 20, 100, 200))
        done: list[int] = []
        renderers["cpu"].render(spec, done.append)
        assert sum(done) == renderers["cpu"].cost(spec)
        assert len(done) > 10

    def test_an_error_in_it_ends_the_work(self, renderers: dict[BackendName, Renderer]) -> None:
        calls: list[int] = []

        def stop(cost: int) -> None:
            calls.append(cost)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            renderers["cpu"].render(make_spec(Latent(seed=1), 2000, 2000), stop)
        assert len(calls) == 1
        assert renderers["cpu"].render(make_spec(Latent(seed=1), 4, 4)).shape == (4, 4, 3)


def test_other_threads_keep_all_cores(renderers: dict[BackendName, Renderer]) -> None:
    """Drawing uses one core in each operation, but takes none away from the rest of the program."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        renderer = Renderer(renderers["cpu"].checkpoint, "cpu", threads=2)
        renderer.render(make_spec(Latent(seed=1), 200, 200))
        assert {block_backend(renderer)._pool.submit(torch.get_num_threads).result() for _ in range(8)} == {1}
        assert torch.get_num_threads() == 3
        fresh: list[int] = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [3]
    finally:
        torch.set_num_threads(before)


class TestBadInput:
    @pytest.mark.parametrize(
        ("latent", "field"),
        [
            (Latent(), "seed"),
            (Latent(seed=-1), "seed"),
            (Latent(z=pack_floats([1.0])), "z"),
            (Latent(w=pack_floats([1.0] * (TINY.w_dim + 1))), "w"),
            (Latent(seed=0, class_index=0), "class_index"),
            (Latent(seed=0, psi=float("nan")), "truncation_psi"),
            (Latent(seed=0, cutoff=TINY.num_ws + 1), "truncation_cutoff"),
        ],
    )
    def test_latents(self, latent: Latent, field: str, renderers: dict[BackendName, Renderer]) -> None:
        spec, good = make_spec(latent, 8, 8), make_spec(Latent(seed=0), 8, 8)
        for draw in (
            renderers["cpu"].render,
            renderers["cpu"].bands,
            lambda spec: renderers["cpu"].render_batch([good, spec]),
        ):
            with pytest.raises(InputError) as caught:
                draw(spec)
            assert caught.value.field == field

    @pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta", "", "cpu:x", "mps"])
    def test_devices(self, name: str) -> None:
        with pytest.raises(InputError, match="device"):
            find_device(name)

    def test_threads(self, renderers: dict[BackendName, Renderer]) -> None:
        with pytest.raises(InputError, match="threads"):
            Renderer(renderers["cpu"].checkpoint, threads=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_is_told_and_given_back(backend: BackendName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LineCache(2**30)
    monkeypatch.setattr(kernels.block_renderer, "host_cache", lambda: cache)
    other = Renderer(random_checkpoint(tmp_path), "cpu", backend)
    other.render(make_spec(Latent(seed=1), 20, 10))
    cached = cache.bytes
    checkpoint = random_checkpoint(tmp_path)
    renderer = Renderer(checkpoint, "cpu", backend)
    weights = sum(tensor.nbytes for tensor in checkpoint.load().state_dict().values())
    packed = block_backend(renderer).packed_bytes
    assert (0 < packed < 2 * weights) if backend == "native" else packed == 0
    assert renderer.memory == weights + packed
    backend_ref = weakref.ref(block_backend(renderer))
    renderer.render(make_spec(Latent(seed=1), 20, 10))
    assert cache.bytes == 2 * cached > 0
    renderer.close()
    assert cache.bytes == cached
    assert backend_ref() is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "shown", [{}, {"region": (-0.5, 0, 1.5, 1)}, {"transform": parse_transforms([{"rotate": 30}])}], ids=str
)
def test_deep_images_are_the_colours_before_quantisation(
    backend: BackendName, shown: dict[str, Any], tmp_path: Path
) -> None:
    """Of whole images, averages and warped ones; and those of a crop are a part of them."""
    renderer = Renderer(random_checkpoint(tmp_path, TINY), "cpu", backend)
    spec = make_spec(Latent(seed=1), 70, 40, **shown)
    deep = replace(spec, encoding=Encoding("npy"))
    levels, colours = renderer.render_batch([spec, deep])
    assert [str(each.dtype) for each in (levels, colours)] == ["uint8", "float32"]
    assert np.array_equal((colours * np.float32(127.5) + np.float32(128)).clip(0, 255).astype(np.uint8), levels)
    part = replace(deep, viewport=replace(deep.viewport, crop=(17, 11, 30, 20)))
    assert np.array_equal(renderer.render(part), colours[11:31, 17:47])
