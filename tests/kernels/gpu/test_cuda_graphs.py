"""CUDA graphs of small images: the same bytes, few launches and copies, and what happens if they cannot be captured.

Without a GPU a graph is a stand-in that repeats its launches.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from kernels.gpu import cuda_graphs
from kernels.gpu.model import PackedModel
from kernels.gpu.renderer import TritonBackend
from kernels.gpu.styles import launch
from kernels.gpu.upload import Upload
from kernels.tiling import Band, Output
from model.latents.latent import Edit, Latent, LayerStyles, pack_floats
from model.viewport import Viewport
from tests.kernels.kernel_runs import DEVICE, DEVICE_CONFIGS, ON_GPU
from tests.kernels.networks import TINY, random_network

pytestmark = pytest.mark.xdist_group("gpu renderer")

PAGE = 16


class Graph:
    """Repeats the launches of its work."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.replay = work


class Counts:
    """Launches by the name of their kernel, replayed graphs and uploads."""

    def __init__(self) -> None:
        self.launches: list[str] = []
        self.replays = 0
        self.uploads = 0

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    counts = Counts()
    replay, start = cuda_graphs.LineGraphs.replay, Upload.start

    def counted_replay(*arguments: Any) -> None:
        before = len(counts.launches)
        replay(*arguments)
        del counts.launches[before:]  # one by one they are launched only by the stand-in
        counts.replays += 1

    def counted_start(self: Upload) -> None:
        start(self)
        counts.uploads += 1

    monkeypatch.setattr(cuda_graphs.LineGraphs, "replay", counted_replay)
    monkeypatch.setattr(Upload, "start", counted_start)
    return counts


@pytest.fixture
def backend(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> TritonBackend:
    """Has not captured its graphs yet."""
    monkeypatch.setattr("kernels.gpu.renderer.PAGE", PAGE)
    monkeypatch.setattr(cuda_graphs, "POSITIONS", 128)
    monkeypatch.setattr(cuda_graphs, "STEP", 64)
    if not ON_GPU:
        monkeypatch.setattr(cuda_graphs, "graphs_enabled", lambda device: True)
        monkeypatch.setattr(cuda_graphs, "capture", lambda work, first: Graph(work))

    def counted_launch(kernel: Any, *arguments: Any, **options: Any) -> None:
        counts.launches.append(kernel.__name__)
        launch(kernel, *arguments, **options)

    generator = random_network(TINY, frequencies=0.3).to(DEVICE)
    return TritonBackend(PackedModel(generator, DEVICE_CONFIGS[0], 1, launch=counted_launch))


def render(backend: TritonBackend, latent: Latent, width: int, height: int) -> Output:
    tiling = backend.plan(Viewport.resolve(width, height))
    output = backend.allocate(height, width)
    for _ in backend.render([Band(latent, tiling, tiling.rows.tiles, output)], None):
        pass
    return output


def numbers(count: int) -> bytes:
    return pack_floats(np.random.default_rng(0).normal(size=count))


def capture(backend: TritonBackend) -> None:
    backend._run(backend._pages.capture_graphs)


@pytest.mark.slow
def test_replayed_lines_are_the_launched_ones(backend: TritonBackend) -> None:
    """For every kind of latent, and padded to the size of a graph or not."""
    edited = Latent(seed=3, styles=(LayerStyles((1, 2), Latent(seed=4)),), edits=(Edit(numbers(TINY.w_dim), 0.5),))
    latents = [
        Latent(seed=5, psi=0.5, cutoff=3),
        Latent(w=numbers(TINY.num_ws * TINY.w_dim), psi=0.7),
        edited,
        Latent(seed=5),
    ]
    sizes = (20, 2), (40, 3), (16, 4), (1, 125)  # the last one needs more positions than a graph has
    launched = [render(backend, *image) for image in zip(latents, *zip(*sizes, strict=True), strict=True)]
    backend._pages.clear()
    capture(backend)
    replayed = [render(backend, *image) for image in zip(latents, *zip(*sizes, strict=True), strict=True)]
    assert all(np.array_equal(a, b) for a, b in zip(launched, replayed, strict=True))


def test_a_small_image_is_one_upload_one_graph_and_the_phases_of_its_pixels(
    backend: TritonBackend, counts: Counts
) -> None:
    capture(backend)
    counts.clear()
    render(backend, Latent(seed=1), 40, 20)
    assert (counts.uploads, counts.replays) == (1, 1)
    assert counts.launches == ["pixels_kernel"] * len(backend._model._phases)
    counts.clear()
    render(backend, Latent(seed=1), 40, 20)  # its lines are in the cache
    assert (counts.uploads, counts.replays) == (1, 0)
    assert counts.launches == ["pixels_kernel"] * len(backend._model._phases)


def test_without_a_graph_each_layer_is_one_launch_for_all_latents(backend: TritonBackend, counts: Counts) -> None:
    tiling = backend.plan(Viewport.resolve(32, 16))
    bands = [Band(Latent(seed=seed), tiling, tiling.rows.tiles, np.empty((16, 32, 3), np.uint8)) for seed in range(3)]
    backend.render_on_device(bands)
    assert counts.uploads == 1
    layers = TINY.mapping_layers, 1, 2, 1
    names = "mapping_kernel", "affine_kernel", "modulate_kernel", "fourier_features_kernel"
    assert [counts.launches.count(name) for name in names] == list(layers)
    blocks = TINY.blocks
    assert counts.launches.count("modulated_matmul_kernel") == 2 * blocks - 1
    assert counts.launches.count("to_lines_kernel") == blocks - 1


def test_graphs_are_captured_when_a_model_is_loaded_the_largest_first(
    backend: TritonBackend, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[tuple[int, Any]] = []
    capture = cuda_graphs.capture

    def noted(work: Callable[[], object], first: Any) -> Any:
        graph = capture(work, first)
        order.append((len(backend._pages._graphs._graphs), first))
        return graph

    monkeypatch.setattr(cuda_graphs, "capture", noted)
    backend.warm_up()
    assert list(backend._pages._graphs._graphs) == [128, 64]
    assert [count for count, _ in order] == [0, 1]  # before any image was rendered
    assert order[0][1] is None
    assert order[1][1] is backend._pages._graphs._graphs[128]
    assert counts.replays == 1  # the averaged image of the warm-up has the lines of the other one
    render(backend, Latent(seed=1), 40, 20)
    backend.release_caches()  # the graphs stay when memory is full
    render(backend, Latent(seed=1), 20, 20)
    assert len(order) == 2
    backend.close()
    assert backend._pages._graphs._graphs == {}


@pytest.mark.parametrize("failing", [1, 2])
def test_after_a_failed_capture_kernels_are_launched(
    backend: TritonBackend,
    counts: Counts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: int,
) -> None:
    expected = render(backend, Latent(seed=1), 40, 20)
    backend._pages.clear()
    capture_one, calls = cuda_graphs.capture, 0

    def fail(work: Callable[[], object], first: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        return capture_one(work, first)

    monkeypatch.setattr(cuda_graphs, "capture", fail)
    with caplog.at_level(logging.WARNING):
        backend.warm_up()
    assert "CUDA graphs cannot be captured" in caplog.text
    backend._pages.clear()
    assert np.array_equal(render(backend, Latent(seed=1), 40, 20), expected)
    assert (calls, counts.replays) == (failing, 0)


@pytest.mark.parametrize(("value", "enabled"), [("0", False), ("1", True), (None, True)])
def test_the_environment_can_disable_graphs(value: str | None, enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREPS_CUDA_GRAPHS", raising=False)
    if value is not None:
        monkeypatch.setenv("CREPS_CUDA_GRAPHS", value)
    assert cuda_graphs.graphs_enabled(torch.device("cuda")) == enabled
    assert not cuda_graphs.graphs_enabled(torch.device("cpu"))
