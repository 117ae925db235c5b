"""The renderer's triton backend: the same bytes however a picture is cut, and what happens when memory is short.

Pages are 32 positions here, so that small pictures have several.
"""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kernels.backend import layer_styles
from kernels.gpu import GpuDrawer
from kernels.graphs import LineGraphs
from kernels.network import GpuNetwork
from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.generator import COLUMNS, ROWS, Generator
from model.importer import rename
from model.spec import Latent, RenderSpec
from model.viewport import Viewport
from tests import golden_files
from tests.golden_files import Case
from tests.kernels.kernel_runs import DEVICE, ON_GPU, PARTS, make_network, relative_error
from tests.kernels.networks import TINY, random_checkpoint

PAGE = 32

GOLDEN = [(name, case) for name, case in golden_files.all_cases() if len(case.ws) == 1 and case.in_range]


def make_spec(width: int, height: int, seed: int = 1, **viewport: Any) -> RenderSpec:
    return RenderSpec("random", Latent(seed=seed), Viewport.resolve(width, height, **viewport))


def drawer_of(renderer: Renderer) -> GpuDrawer:
    assert isinstance(renderer._drawer, GpuDrawer)
    return renderer._drawer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.3)


@pytest.fixture(scope="module", autouse=True)
def small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kernels.gpu.PAGE", PAGE)
        patch.setattr("kernels.precision.SIDE", 8)  # loads faster
        yield


@pytest.fixture(scope="module")
def renderer(checkpoint: Checkpoint, small_pages: None) -> Renderer:
    return Renderer(checkpoint, str(DEVICE), "triton")


@pytest.fixture
def fresh(checkpoint: Checkpoint) -> Renderer:
    """Another one, with caches of its own."""
    return Renderer(checkpoint, str(DEVICE), "triton")


@pytest.fixture
def drawn_positions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many positions each call for lines asks for."""
    calls: list[int] = []
    draw_lines = LineGraphs.draw_lines

    def counted(self: LineGraphs, vectors: Any, positions: Any, axes: Any, tiles: Any) -> None:
        calls.append(len(positions))
        draw_lines(self, vectors, positions, axes, tiles)

    monkeypatch.setattr(LineGraphs, "draw_lines", counted)
    return calls


class TestFaithfulness:
    @pytest.mark.parametrize(
        ("width", "height", "viewport"),
        [
            (1, 1, {}),
            (50, 37, {}),
            (7, 3, {"region": (0.0, 0.0, 1.0, 1.0)}),  # supersampled 3 × 6 times
            (2, 1, {"region": (-1.0, -1.0, 2.0, 2.0)}),  # supersampled 24 × 48 times: a pixel is two pages high
            (30, 40, {"grid": "corners", "crop": (3, 5, 20, 33)}),
        ],
    )
    def test_it_draws_what_a_cpu_draws(
        self, renderer: Renderer, width: int, height: int, viewport: dict[str, Any]
    ) -> None:
        spec = make_spec(width, height, **viewport)
        drawn, expected = (r.render(spec).astype(int) for r in (renderer, Renderer(renderer.checkpoint, "cpu", "cpu")))
        assert np.abs(drawn - expected).max() <= 1
        mean_square = np.square(drawn - expected).mean()
        assert 10 * np.log10(255**2 / max(mean_square, 1e-9)) >= 60

    @pytest.mark.parametrize("parts", PARTS)
    @pytest.mark.parametrize(
        ("name", "case"),
        GOLDEN,
        ids=[case.name for _, case in GOLDEN],
    )
    def test_it_draws_what_the_original_draws(self, name: str, case: Case, parts: int) -> None:
        config, state = rename(golden_files.load(name).state)
        generator = Generator(config)
        generator.load_state_dict(state)
        drawer = GpuDrawer(make_network(generator.requires_grad_(False), parts))
        rows, columns = (positions.numpy()[:64] for positions in case.positions())
        colours = drawer.colours(Latent(w=tuple(case.ws.flatten().tolist())), rows, columns)
        expected = case.image[0, :, :64, :64].permute(1, 2, 0).to(DEVICE)
        assert relative_error(colours, expected.double()) < {1: 1e-2, 2: 1e-4}[parts]
        levels = [(picture.double() * 127.5 + 128).clamp(0, 255).floor() for picture in (colours, expected)]
        assert float((levels[0] - levels[1]).abs().max()) <= {1: 2, 2: 1}[parts]

    def test_lines_are_the_networks(self, renderer: Renderer) -> None:
        positions = np.linspace(0, 1, 50)
        generator = renderer.checkpoint.load().double()
        ws = layer_styles(generator.config, renderer.checkpoint.load().mapping, Latent(seed=2)).double()
        expected = generator.synthesis.lines(ws, torch.from_numpy(positions), COLUMNS)[0]
        found = renderer.lines(Latent(seed=2), positions, COLUMNS)
        assert relative_error(found.cpu(), expected) < 1.5e-3


class TestSameBytes:
    @pytest.mark.parametrize("viewport", [{}, {"region": (0.1, 0.2, 0.9, 0.6)}, {"grid": "corners"}])
    @pytest.mark.parametrize("crop", [(0, 0, 1, 1), (31, 31, 2, 35), (64, 10, 6, 20), (3, 60, 67, 5)])
    def test_crops(
        self, renderer: Renderer, fresh: Renderer, viewport: dict[str, Any], crop: tuple[int, int, int, int]
    ) -> None:
        whole = renderer.render(make_spec(70, 66, **viewport))
        x, y, w, h = crop
        drawn = fresh.render(make_spec(70, 66, **viewport, crop=crop))
        assert np.array_equal(drawn, whole[y : y + h, x : x + w])

    def test_crops_of_averages(self, renderer: Renderer, fresh: Renderer) -> None:
        whole = renderer.render(make_spec(12, 5))
        assert np.array_equal(fresh.render(make_spec(12, 5, crop=(2, 1, 7, 3))), whole[1:4, 2:9])

    def test_batches(self, renderer: Renderer, fresh: Renderer) -> None:
        specs = [
            make_spec(40, 20),
            make_spec(9, 11, seed=2),
            make_spec(6, 4, seed=3),
            make_spec(40, 20, crop=(30, 3, 9, 9)),
            make_spec(20, 20, seed=2, grid="corners"),
        ]
        together = fresh.render_batch(specs)
        for spec, drawn in zip(specs, together, strict=True):
            assert np.array_equal(drawn, renderer.render(spec))

    @pytest.mark.parametrize("line_limit", [10_000, 64])
    def test_bands_and_panels(
        self, renderer: Renderer, fresh: Renderer, monkeypatch: pytest.MonkeyPatch, line_limit: int
    ) -> None:
        """Also where the lines of no more than two pages can be held, so that bands are cut into panels."""
        spec = make_spec(90, 80, crop=(5, 7, 80, 70))
        expected = renderer.render(spec)
        monkeypatch.setattr("kernels.tiles.BLOCKS_PER_THREAD", 4)
        monkeypatch.setattr("kernels.gpu.BLOCKS_PER_THREAD", 4)
        monkeypatch.setattr("kernels.tiles.WIDE_BAND_PIXELS", 90 * PAGE)
        drawer_of(fresh)._pages.limit = line_limit
        bands = list(fresh.bands(spec))
        assert len(bands) > 1
        assert np.array_equal(np.concatenate(bands), expected)

    def test_launches(self, renderer: Renderer, fresh: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
        """However few pixels a launch has."""
        spec = make_spec(70, 40)
        expected = renderer.render(spec)
        monkeypatch.setattr("kernels.tasks.LAUNCH_PIXELS", 1000)
        assert np.array_equal(fresh.render(spec), expected)

    def test_callers_in_several_threads(self, renderer: Renderer, fresh: Renderer) -> None:
        specs = [make_spec(40, 20, seed=seed) for seed in range(3)]
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
    def test_tiles_of_a_picture_share_them(self, fresh: Renderer, drawn_positions: list[int]) -> None:
        fresh.render(make_spec(64, 64, crop=(0, 0, 32, 32)))
        fresh.render(make_spec(64, 64, crop=(32, 0, 32, 32)))
        fresh.render(make_spec(64, 64, crop=(0, 32, 32, 32)))
        fresh.render(make_spec(64, 64, crop=(32, 32, 32, 32)))
        assert drawn_positions == [64, 32, 32]

    def test_those_beyond_the_picture_are_not_made(self, fresh: Renderer, drawn_positions: list[int]) -> None:
        fresh.render(make_spec(40, 16, crop=(33, 0, 1, 1)))
        assert drawn_positions == [16 + 16]  # 16 rows, and columns 32 … 39 filled up to a tile

    def test_what_is_kept_is_bounded(
        self, checkpoint: Checkpoint, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit = 100 * drawer_of(renderer)._network.line_bytes
        monkeypatch.setattr("kernels.pages.CACHE_BYTES", limit)
        small = Renderer(checkpoint, str(DEVICE), "triton")
        for seed in range(4):
            spec = make_spec(64, 32, seed=seed)
            assert np.array_equal(small.render(spec), renderer.render(spec))
            assert 0 < drawer_of(small)._pages._cache.bytes <= limit

    @pytest.mark.skipif(not ON_GPU, reason="graphs are CUDA's")
    def test_graphs_make_the_same_lines(self, fresh: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = [(100, 90), (300, 100), (70, 65)]
        replayed = [fresh.render(make_spec(*size, seed=5)) for size in sizes for _ in range(2)]
        monkeypatch.setattr("kernels.graphs.POSITIONS", 0)
        plain = Renderer(fresh.checkpoint, str(DEVICE), "triton")
        launched = [plain.render(make_spec(*size, seed=5)) for size in sizes for _ in range(2)]
        assert all(np.array_equal(a, b) for a, b in zip(replayed, launched, strict=True))


class TestShortMemory:
    """torch.OutOfMemoryError is what a CUDA allocation raises."""

    @pytest.fixture
    def failures(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Whether each of the next launches of pixels fails; later ones do not."""
        coming: list[bool] = []
        draw_pixels = GpuNetwork.draw_pixels

        def fail(self: GpuNetwork, *arguments: Any, **options: Any) -> None:
            if coming and coming.pop(0):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            draw_pixels(self, *arguments, **options)

        monkeypatch.setattr(GpuNetwork, "draw_pixels", fail)
        return coming

    def test_the_cache_is_given_up_first(self, renderer: Renderer, fresh: Renderer, failures: list[bool]) -> None:
        fresh.render(make_spec(200, 20, seed=2))
        before = drawer_of(fresh)._pages._cache.bytes
        failures += [True]
        assert np.array_equal(fresh.render(make_spec(40, 20)), renderer.render(make_spec(40, 20)))
        assert drawer_of(fresh)._pages._cache.bytes < before

    def test_then_the_picture_fails_and_the_next_does_not(self, fresh: Renderer, failures: list[bool]) -> None:
        failures += [True, True]
        with pytest.raises(torch.OutOfMemoryError):
            fresh.render(make_spec(40, 20))
        assert fresh.render(make_spec(40, 20)).shape == (20, 40, 3)


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
    renderer.render(make_spec(70, 50))
    weights = sum(tensor.nbytes for tensor in checkpoint.load().state_dict().values())
    assert allocated() > before + weights / 4  # kept in less precision than in the checkpoint
    renderer.close()
    assert allocated() <= before  # less where matrices have been multiplied before
    assert reserved() <= reserved_before


class TestProgress:
    def test_adds_up_to_the_cost(self, renderer: Renderer) -> None:
        spec = make_spec(70, 50, crop=(10, 20, 50, 20))
        done: list[int] = []
        renderer.render(spec, done.append)
        assert sum(done) == renderer.cost(spec)

    def test_a_band_that_nobody_wants_any_more(self, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("kernels.tiles.BLOCKS_PER_THREAD", 1)
        monkeypatch.setattr("kernels.gpu.BLOCKS_PER_THREAD", 1)
        bands = renderer.bands(make_spec(32, 320))
        next(bands)
        del bands
        assert renderer.render(make_spec(4, 4)).shape == (4, 4, 3)


class TestWarp:
    """Pictures at any coordinates."""

    def test_whole_rows_and_columns_are_the_picture(self, renderer: Renderer) -> None:
        spec = make_spec(20, 18, grid="corners")
        rows, columns = spec.viewport.rows(0, 18, TINY.resolution), spec.viewport.columns(0, 20, TINY.resolution)
        coordinates = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
        difference = np.abs(renderer.warp(Latent(seed=1), coordinates).astype(int) - renderer.render(spec).astype(int))
        assert difference.max() <= 1

    def test_a_rotated_picture(self, renderer: Renderer) -> None:
        y, x = np.mgrid[0:37, 0:21] / 40
        coordinates = np.stack([0.5 + 0.6 * y - 0.8 * x, 0.8 * y + 0.6 * x], axis=-1)
        expected = exact_at(renderer.checkpoint.load(), Latent(seed=1), coordinates)
        difference = np.abs(renderer.warp(Latent(seed=1), coordinates).astype(int) - expected)
        assert expected.std() > 10
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.15

    @pytest.mark.parametrize(
        "coordinates",
        [
            np.zeros((3, 4)),
            np.zeros((0, 4, 2)),
            np.full((1, 1, 2), np.nan),
            np.full((1, 1, 2), 2.01),
            -np.ones((1, 1, 2)) * 3,
        ],
    )
    def test_bad_coordinates(self, renderer: Renderer, coordinates: NDArray[np.float64]) -> None:
        with pytest.raises(InputError, match="coordinates: must be"):
            renderer.warp(Latent(seed=1), coordinates)

    def test_other_backends_refuse(self, checkpoint: Checkpoint) -> None:
        with pytest.raises(InputError, match="backend: cpu draws whole rows and columns only"):
            Renderer(checkpoint, "cpu", "cpu").warp(Latent(seed=1), np.zeros((1, 1, 2)))


def exact_at(generator: Generator, latent: Latent, coordinates: NDArray[np.float64]) -> NDArray[np.int64]:
    """Levels [H, W, 3] of the network at each pixel's own coordinates."""
    height, width, _ = coordinates.shape
    synthesis, ws = generator.synthesis, layer_styles(generator.config, generator.mapping, latent)
    rows, columns = (
        synthesis.lines(ws, torch.from_numpy(coordinates[..., axis].ravel()), axis) for axis in (ROWS, COLUMNS)
    )
    pixels = [synthesis.pixels(ws, rows[..., i : i + 1, :], columns[..., i : i + 1, :]) for i in range(height * width)]
    colours = torch.cat(pixels)[..., 0, 0].view(height, width, 3)
    return (colours * 127.5 + 128).clamp(0, 255).long().numpy()
