"""Images of a network with random weights, and their times."""

import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kernels.first_run import ON_GPU
from kernels.gpu import model, styles
from kernels.gpu.jit.lines import TILE
from kernels.gpu.launch_config import LAUNCH_CONFIGS, LaunchConfig, get_launch_configs
from kernels.gpu.model import PackedModel
from kernels.gpu.renderer import TritonBackend
from kernels.tiling import Band, Output
from model.checkpoint import Checkpoint
from model.config import PRESETS, RGB, GeneratorConfig
from model.generator import Generator
from model.latents.latent import Latent
from model.viewport import Viewport

INTERPRETED = GeneratorConfig(8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8, thickness=2)
"""The network of every step without a GPU."""

DEMO = Path(__file__).parents[2] / "model" / "demo" / "demo.safetensors"

DEVICE = torch.device("cuda" if ON_GPU else "cpu")

if not ON_GPU:  # few large programs: the interpreter's time is that of operations, not of numbers
    styles.STYLE_ROWS = styles.MODULATED_ROWS = 256
    model.FOURIER_ROWS = TILE

SLEEP_CYCLES = 20_000_000
"""About 11 ms on the GPU, in which launches get ahead, so that the time is the GPU's alone."""


def launch_configs() -> tuple[LaunchConfig, ...]:
    return get_launch_configs(*torch.cuda.get_device_capability()) if ON_GPU else LAUNCH_CONFIGS[90][:1]


def make_generator(preset: str | None) -> Generator:
    """A network with random weights, or without a preset the demo's, which are trained."""
    if preset is None and ON_GPU:
        return Checkpoint.open(DEMO).load().requires_grad_(False).to(DEVICE)
    torch.manual_seed(0)
    config = PRESETS[preset] if ON_GPU and preset else INTERPRETED
    return Generator(config).eval().requires_grad_(False).to(DEVICE)


def make_backend(generator: Generator, parts: int = 1) -> TritonBackend:
    """On a GPU with compiled kernels and captured graphs."""
    backend = TritonBackend(PackedModel(generator, launch_configs()[parts - 1], parts))
    if ON_GPU:
        backend.compile_kernels()
        backend.warm_up()
    return backend


def render(backend: TritonBackend, seed: int, side: int) -> Output:
    output = backend.allocate(side, side)
    for _ in backend.render(_bands(backend, seed, output), None):
        pass
    return output


def measure_speed(preset: str, side: int, repeats: int, batch: int = 1) -> dict[str, Any]:
    """Milliseconds for images of new seeds until they are in host memory; on the GPU alone; and with kept lines."""
    backend, seeds = make_backend(make_generator(preset)), itertools.count(100)
    shape = np.broadcast_to(np.uint8(0), (side, side, RGB))  # on the device only the shape matters

    def to_host() -> float:
        outputs = [backend.allocate(side, side) for _ in range(batch)]
        start = time.perf_counter()
        for _ in backend.render((band for output in outputs for band in _bands(backend, next(seeds), output)), None):
            pass
        return 1e3 * (time.perf_counter() - start)

    def on_device(fresh: bool) -> float:
        own = [next(seeds) if fresh else i for i in range(batch)]
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        torch.cuda._sleep(SLEEP_CYCLES)  # type: ignore[no-untyped-call]
        begin.record()
        backend.render_on_device(band for seed in own for band in _bands(backend, seed, shape))
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    to_host()
    times = {"to host": sorted(to_host() for _ in range(repeats))}
    for name, fresh in (("on the GPU", True), ("pixels on the GPU", False)) if ON_GPU else ():
        on_device(fresh)
        times[name] = sorted(on_device(fresh) for _ in range(repeats))
    gigapixels = side * side * batch / 1e9
    rates = {name: gigapixels / (statistics.median(own) / 1e3) for name, own in times.items()}
    return {"side": side, "batch": batch, "milliseconds": times, "gigapixels per second": rates}


def _bands(backend: TritonBackend, seed: int, output: Output) -> Iterator[Band]:
    tiling = backend.plan(Viewport.resolve(output.shape[1], output.shape[0]))
    for rows in tiling.bands():
        top, bottom = tiling.rows.visible(rows)
        yield Band(Latent(seed=seed), tiling, rows, output[top:bottom])
