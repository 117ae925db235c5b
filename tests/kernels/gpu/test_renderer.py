"""The triton backend: the same bytes for every crop and batch, and behaviour when memory is full.

Pages have 16 positions here, so that small images have several.
"""

import copy
import gc
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import triton
from numpy.typing import NDArray
from torch import Tensor

from kernels.gpu.line_inputs import LineInputs
from kernels.gpu.model import PackedModel
from kernels.gpu.renderer import TritonBackend
from kernels.gpu.styles import launch
from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.generator import COLUMNS, ROWS, Generator
from model.geometry.transforms import parse_transforms
from model.geometry.wrap import Wrap
from model.latents.latent import Latent, LayerStyles, pack_floats
from model.latents.styles import layer_styles
from model.official.generator import convert_state_dict
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from tests import golden_files
from tests.golden_files import Case
from tests.kernels.direct import direct_colours, to_levels
from tests.kernels.kernel_runs import DEVICE, ON_GPU, PARTS, fast_if, pack, relative_error
from tests.kernels.networks import TINY, random_checkpoint

pytestmark = pytest.mark.xdist_group("gpu renderer")  # one for all tests

PAGE = 16

GOLDEN = [
    fast_if(case.name == "official_r32-case0" and parts == 1, name, case, parts, id=f"{case.name}-{parts}")
    for name, case in golden_files.all_cases()
    if len(case.ws) == 1 and case.in_range
    for parts in PARTS
]


def make_spec(width: int, height: int, seed: int = 1, **viewport: Any) -> RenderSpec:
    return RenderSpec("random", Latent(seed=seed), Viewport.resolve(width, height, **viewport))


def backend_of(renderer: Renderer) -> TritonBackend:
    assert isinstance(renderer._backend, TritonBackend)
    return renderer._backend


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.3)


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kernels.gpu.renderer.PAGE", PAGE)
        patch.setattr("kernels.accuracy.SIDE", 8)  # loads faster
        patch.setattr("kernels.accuracy.LATENTS", 1)
        yield


@pytest.fixture(scope="module")
def renderer(checkpoint: Checkpoint, small_pages: None) -> Renderer:
    return Renderer(checkpoint, str(DEVICE), "triton")


@pytest.fixture
def fresh(renderer: Renderer) -> Renderer:
    """Another one of the same packed model, with caches of its own."""
    other = copy.copy(renderer)
    other._backend = TritonBackend(backend_of(renderer)._model)
    return other


@pytest.fixture
def computed_positions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many positions each call for lines asks for."""
    calls: list[int] = []
    compute_lines = PackedModel.compute_lines

    def counted(self: PackedModel, inputs: LineInputs) -> None:
        calls.append(len(inputs.positions))
        compute_lines(self, inputs)

    monkeypatch.setattr(PackedModel, "compute_lines", counted)
    return calls


class TestFaithfulness:
    @pytest.mark.parametrize(
        ("width", "height", "viewport"),
        [
            fast_if(True, 1, 1, {}),
            fast_if(False, 50, 37, {}),
            fast_if(True, 7, 3, {"region": (0.0, 0.0, 1.0, 1.0)}),  # supersampled 3 × 6 times
            # supersampled 24 × 48 times: a pixel is three pages high
            fast_if(False, 2, 1, {"region": (-1.0, -1.0, 2.0, 2.0)}),
            fast_if(True, 30, 20, {"grid": "corners", "crop": (3, 5, 20, 13)}),
        ],
    )
    def test_images_equal_the_cpus(self, renderer: Renderer, width: int, height: int, viewport: dict[str, Any]) -> None:
        spec = make_spec(width, height, **viewport)
        drawn, expected = (r.render(spec).astype(int) for r in (renderer, Renderer(renderer.checkpoint, "cpu", "cpu")))
        assert np.abs(drawn - expected).max() <= 1
        mean_square = np.square(drawn - expected).mean()
        assert 10 * np.log10(255**2 / max(mean_square, 1e-9)) >= 60

    def test_mixed_styles(self, renderer: Renderer) -> None:
        """Their vectors, their image, and that of the vectors as a latent, which has the same bytes."""
        latent = Latent(seed=1, psi=0.7, styles=(LayerStyles((1, 3), Latent(seed=4)),))
        spec = replace(make_spec(20, 10), latent=latent)
        generator = renderer.checkpoint.load()
        ws = renderer.styles(latent)
        expected = layer_styles(generator.config, generator.mapping, latent)[0].numpy()
        np.testing.assert_allclose(ws, expected, rtol=1e-5, atol=1e-6)
        drawn = renderer.render(spec)
        of_cpu = Renderer(renderer.checkpoint, "cpu", "cpu").render(spec)
        assert np.abs(drawn.astype(int) - of_cpu).max() <= 1
        assert np.array_equal(renderer.render(replace(spec, latent=Latent(w=pack_floats(ws)))), drawn)
        unmixed = renderer.render(replace(spec, latent=replace(latent, styles=())))
        assert np.abs(drawn.astype(int) - unmixed).max() > 10

    @pytest.mark.parametrize(("name", "case", "parts"), GOLDEN)
    def test_images_equal_the_originals(self, name: str, case: Case, parts: int) -> None:
        config, state = convert_state_dict(golden_files.load(name).state)
        generator = Generator(config)
        generator.load_state_dict(state)
        backend = TritonBackend(pack(generator.requires_grad_(False), parts))
        side = 64 if ON_GPU else 16
        rows, columns = (positions.numpy()[:side] for positions in case.positions())
        colours = backend.colours(Latent(w=pack_floats(case.ws.flatten())), rows, columns)
        expected = case.image[0, :, :side, :side].permute(1, 2, 0).to(DEVICE)
        assert relative_error(colours, expected.double()) < {1: 1e-2, 2: 1e-4}[parts]
        levels = [(image.double() * 127.5 + 128).clamp(0, 255).floor() for image in (colours, expected)]
        assert float((levels[0] - levels[1]).abs().max()) <= {1: 2, 2: 1}[parts]

    def test_lines_are_the_networks(self, renderer: Renderer) -> None:
        positions = np.linspace(0, 1, 50)
        generator = renderer.checkpoint.load().double()
        ws = layer_styles(generator.config, renderer.checkpoint.load().mapping, Latent(seed=2)).double()
        expected = generator.synthesis.lines(ws, torch.from_numpy(positions), COLUMNS)[0]
        found = renderer.lines(Latent(seed=2), positions, COLUMNS)
        assert relative_error(found.cpu(), expected) < 1.5e-3


class TestSameBytes:
    @pytest.mark.parametrize(
        "viewport",
        [fast_if(False, {}), fast_if(True, {"region": (0.1, 0.2, 0.9, 0.6)}), fast_if(False, {"grid": "corners"})],
    )
    def test_crops(self, renderer: Renderer, fresh: Renderer, viewport: dict[str, Any]) -> None:
        whole = renderer.render(make_spec(35, 33, **viewport))
        for x, y, w, h in [(0, 0, 1, 1), (15, 15, 2, 18), (32, 5, 3, 10), (2, 30, 33, 3)]:
            rendered = fresh.render(make_spec(35, 33, **viewport, crop=(x, y, w, h)))
            assert np.array_equal(rendered, whole[y : y + h, x : x + w])
            backend_of(fresh)._pages.clear()

    def test_crops_of_averages(self, renderer: Renderer, fresh: Renderer) -> None:
        whole = renderer.render(make_spec(12, 5))
        assert np.array_equal(fresh.render(make_spec(12, 5, crop=(2, 1, 7, 3))), whole[1:4, 2:9])

    @pytest.mark.slow
    def test_batches(self, renderer: Renderer, fresh: Renderer) -> None:
        specs = [
            make_spec(20, 17),
            make_spec(9, 11, seed=2),
            make_spec(6, 4, seed=3),
            make_spec(20, 17, crop=(15, 3, 5, 9)),
            make_spec(20, 10, seed=2, grid="corners"),
        ]
        together = fresh.render_batch(specs)
        for spec, drawn in zip(specs, together, strict=True):
            assert np.array_equal(drawn, renderer.render(spec))

    @pytest.mark.parametrize("line_limit", [10_000, 32])
    @pytest.mark.slow
    def test_bands_and_panels(
        self, renderer: Renderer, fresh: Renderer, monkeypatch: pytest.MonkeyPatch, line_limit: int
    ) -> None:
        """Also where the lines of no more than two pages can be held, so that bands are cut into panels."""
        spec = make_spec(45, 40, crop=(3, 4, 40, 35))
        expected = renderer.render(spec)
        monkeypatch.setattr("kernels.tiling.BLOCKS_PER_THREAD", 4)
        monkeypatch.setattr("kernels.gpu.renderer.BLOCKS_PER_THREAD", 4)
        monkeypatch.setattr("kernels.tiling.WIDE_BAND_PIXELS", 45 * PAGE)
        backend_of(fresh)._pages.limit = line_limit
        bands = list(fresh.bands(spec))
        assert len(bands) > 1
        assert np.array_equal(np.concatenate(bands), expected)

    @pytest.mark.slow
    def test_launches(self, renderer: Renderer, fresh: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few pixels a launch has."""
        spec = make_spec(35, 20)
        expected = renderer.render(spec)
        monkeypatch.setattr("kernels.gpu.pixel_tasks.LAUNCH_PIXELS", 300)
        assert np.array_equal(fresh.render(spec), expected)

    def test_callers_in_several_threads(self, renderer: Renderer, fresh: Renderer) -> None:
        specs = [make_spec(20, 10, seed=seed) for seed in range(2)]
        found: dict[int, NDArray[np.uint8]] = {}
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: fresh.render(specs[i])})) for i in range(len(specs))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(np.array_equal(found[i], renderer.render(specs[i])) for i in range(len(specs)))


class TestLines:
    def test_tiles_of_an_image_share_them(self, fresh: Renderer, computed_positions: list[int]) -> None:
        for x, y in [(0, 0), (16, 0), (0, 16), (16, 16)]:
            fresh.render(make_spec(32, 32, crop=(x, y, 16, 16)))
        assert computed_positions == [32, 16, 16]

    def test_those_beyond_the_image_are_not_made(self, fresh: Renderer, computed_positions: list[int]) -> None:
        fresh.render(make_spec(40, 16, crop=(33, 0, 1, 1)))
        assert computed_positions == [16 + 16]  # 16 rows, and columns 32 … 39 padded to a tile

    def test_what_is_kept_is_bounded(self, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
        limit = 100 * backend_of(renderer)._model.line_bytes
        monkeypatch.setattr("kernels.gpu.line_pages.CACHE_BYTES", limit)
        small = TritonBackend(backend_of(renderer)._model)
        for seed in range(4):
            small.lines(Latent(seed=seed), np.linspace(0, 1, 64), ROWS)
            assert 0 < small._pages._cache.bytes <= limit


class TestShortMemory:
    """torch.OutOfMemoryError is what a CUDA allocation raises."""

    @pytest.fixture
    def failures(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Whether each of the next launches of pixels fails; later ones do not."""
        coming: list[bool] = []
        render_pixels = PackedModel.render_pixels

        def fail(self: PackedModel, *arguments: Any, **options: Any) -> None:
            if coming and coming.pop(0):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            render_pixels(self, *arguments, **options)

        monkeypatch.setattr(PackedModel, "render_pixels", fail)
        return coming

    def test_the_cache_is_given_up_first(self, renderer: Renderer, fresh: Renderer, failures: list[bool]) -> None:
        fresh.lines(Latent(seed=2), np.linspace(0, 1, 200), ROWS)
        before = backend_of(fresh)._pages._cache.bytes
        failures += [True]
        assert np.array_equal(fresh.render(make_spec(20, 10)), renderer.render(make_spec(20, 10)))
        assert backend_of(fresh)._pages._cache.bytes < before

    def test_then_the_image_fails_and_the_next_does_not(self, fresh: Renderer, failures: list[bool]) -> None:
        failures += [True, True]
        with pytest.raises(torch.OutOfMemoryError):
            fresh.render(make_spec(20, 10))
        assert fresh.render(make_spec(20, 10)).shape == (10, 20, 3)


def allocated() -> int:
    """Bytes of all tensors: on a GPU its own, else those of this process."""
    gc.collect()
    if ON_GPU:
        return torch.cuda.memory_allocated()
    tensors = [found for found in gc.get_objects() if type(found) in (torch.Tensor, torch.nn.Parameter)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def reserved() -> int:
    """Bytes of a GPU that no other process can have."""
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved() if ON_GPU else 0


def test_a_closed_renderer_leaves_no_memory_behind(checkpoint: Checkpoint) -> None:
    before, reserved_before = allocated(), reserved()
    renderer = Renderer(checkpoint, str(DEVICE), "triton")
    renderer.render(make_spec(20, 10))
    weights = sum(tensor.nbytes for tensor in checkpoint.load().state_dict().values())
    assert allocated() > before + weights / 4  # kept in less precision than in the checkpoint
    renderer.close()
    assert allocated() <= before  # less where matrices have been multiplied before
    assert reserved() <= reserved_before


class TestProgress:
    def test_adds_up_to_the_cost(self, renderer: Renderer) -> None:
        spec = make_spec(35, 25, crop=(5, 10, 25, 10))
        done: list[int] = []
        renderer.render(spec, done.append)
        assert sum(done) == renderer.cost(spec)

    def test_an_iterator_that_is_not_exhausted(self, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kernels.tiling.BLOCKS_PER_THREAD", 1)
        monkeypatch.setattr("kernels.gpu.renderer.BLOCKS_PER_THREAD", 1)
        bands = renderer.bands(make_spec(16, 80))
        next(bands)
        del bands
        assert renderer.render(make_spec(4, 4)).shape == (4, 4, 3)


class TestWarp:
    """Images whose pixels lie anywhere."""

    @pytest.mark.slow
    def test_whole_rows_and_columns_are_the_image(self, renderer: Renderer) -> None:
        spec = make_spec(20, 18, grid="corners")
        rows, columns = spec.viewport.rows(0, 18, TINY.resolution), spec.viewport.columns(0, 20, TINY.resolution)
        coordinates = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
        colours = backend_of(renderer).warp_colours(Latent(seed=1), coordinates, spec.viewport)
        found = to_levels(colours.double().cpu().numpy())
        assert np.abs(found - renderer.render(spec)).max() <= 1

    def test_a_rotated_image_and_its_part(self, renderer: Renderer) -> None:
        transform = parse_transforms([{"rotate": 53}])
        spec = make_spec(100, 100, crop=(40, 41, 17, 16), transform=transform)
        exact = direct_colours(renderer.checkpoint.load(), Latent(seed=1), spec.viewport)
        colours = renderer.render(replace(spec, encoding=Encoding("npy")))
        assert np.square(colours - exact).mean() < 2.0**2 * 1e-6  # 60 dB
        expected, found = to_levels(exact), renderer.render(spec)
        difference = np.abs(found.astype(int) - expected)
        assert expected.std() > 10
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.15
        part = make_spec(100, 100, crop=(45, 50, 4, 5), transform=transform)
        assert np.array_equal(renderer.render(part), found[9:14, 5:9])

    @pytest.mark.slow
    def test_averages_of_several_samples(self, renderer: Renderer) -> None:
        spec = make_spec(8, 8, transform=parse_transforms([{"rotate": 30}]), outside="fill")
        expected = to_levels(direct_colours(renderer.checkpoint.load(), Latent(seed=1), spec.viewport, 2))
        assert np.abs(renderer.render(spec).astype(int) - expected).max() <= 1


def test_a_seamless_image(renderer: Renderer, checkpoint: Checkpoint) -> None:
    """Lines are blended as by the other backends, and repeat."""
    spec = make_spec(32, 6, region=(-0.5, 0.0, 1.5, 0.4), wrap=Wrap("x"))
    expected = Renderer(checkpoint, "cpu", "reference").render(spec)
    found = renderer.render(spec)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.array_equal(found[:, :16], found[:, 16:])


class TestPinnedMemory:
    @pytest.fixture
    def pinned(self, fresh: Renderer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
        """Shapes of what is allocated in pinned memory. Without a GPU nothing is, but it is noted all the same."""
        shapes: list[tuple[int, ...]] = []
        empty = torch.empty

        def noted(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
            tensor = empty(*shape, pin_memory=pin_memory and ON_GPU, **options)
            if pin_memory:
                shapes.append(tuple(tensor.shape))
            return tensor

        monkeypatch.setattr(backend_of(fresh), "_on_gpu", True)
        monkeypatch.setattr("kernels.gpu.renderer.torch.empty", noted)
        monkeypatch.setattr("kernels.tiling.BLOCKS_PER_THREAD", 3)
        monkeypatch.setattr("kernels.gpu.renderer.BLOCKS_PER_THREAD", 3)
        return shapes

    def test_a_large_image_passes_through_pinned_bands(
        self, renderer: Renderer, fresh: Renderer, pinned: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = make_spec(40, 20)
        monkeypatch.setattr("kernels.gpu.renderer.PINNED_BYTES", 40 * 20 * 3)
        assert backend_of(fresh).allocate(20, 40).shape == pinned.pop()
        monkeypatch.setattr("kernels.gpu.renderer.PINNED_BYTES", 40 * 20 * 3 - 1)
        rendered = fresh.render(spec)
        bands = [shape for shape in pinned if len(shape) == 3]  # the others are tables
        assert bands == [(16, 40, 3), (4, 40, 3)]
        assert np.array_equal(rendered, renderer.render(spec))


def test_kernels_are_compiled_before_they_are_launched(fresh: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that an image launches, in threads; and no line of theirs is kept."""
    compiled, launched = set[tuple[Any, ...]](), set[tuple[Any, ...]]()

    def key(kernel: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        return kernel.__name__, *sorted(options.items())

    def compile_only(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        assert triton.runtime._async_compile.active_mode.get() is not None
        compiled.add(key(kernel, options))

    monkeypatch.setattr("kernels.gpu.model.compile_only", compile_only)
    backend = backend_of(fresh)
    backend.compile_kernels()
    assert backend._pages._cache.bytes == 0

    def noted_launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        launched.add(key(kernel, options))
        launch(kernel, grid, *arguments, **options)

    monkeypatch.setattr(backend._model, "_launch", noted_launch)
    backend.colours(Latent(seed=1), np.zeros(4), np.zeros(5))
    fresh.render_batch([make_spec(20, 10), make_spec(8, 5)])
    assert launched <= compiled


@pytest.mark.parametrize("shown", [{}, {"region": (-0.5, 0, 1.5, 1)}], ids=str)
def test_deep_images_are_the_colours_before_quantisation(renderer: Renderer, shown: dict[str, Any]) -> None:
    spec = make_spec(20, 18, **shown)
    deep = replace(spec, encoding=Encoding("npy"))
    levels, colours = renderer.render_batch([spec, deep])
    assert colours.dtype == np.float32
    assert np.abs((colours * 127.5 + 128).clip(0, 255).astype(np.uint8).astype(int) - levels).max() <= 1
    assert (colours * 127.5 % 1 > 0.01).any()
    part = replace(deep, viewport=replace(deep.viewport, crop=(3, 5, 12, 10)))
    assert np.array_equal(renderer.render(part), colours[5:15, 3:15])
