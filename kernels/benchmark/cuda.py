"""Benchmark of the GPU kernels and the naive baselines, with the rates of matrix products and copies as limits.

Times are medians of CUDA events, with the L2 cache flushed before each run. Naive baselines that take over half a
second are timed once. Times "to host" are wall-clock times. "GPU ms" is the time in which the GPU never waits for the
CPU: everything is launched while the GPU is kept busy. The other times of small images include the CPU's launches.
"""

import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from triton.testing import do_bench

from kernels.accuracy import AccuracyReport, make_probes, measure
from kernels.backend import any_latent
from kernels.benchmark.naive_baseline import NaiveBaseline
from kernels.benchmark.report import Measurement, Report, Skipped
from kernels.gpu.launch_config import LaunchConfig, get_launch_configs
from kernels.gpu.model import ARITHMETIC, PackedModel
from kernels.gpu.renderer import TritonBackend
from kernels.tiling import Band
from model.checkpoint import Checkpoint
from model.config import PRESETS, RGB
from model.generator import Generator
from model.viewport import Viewport

SIDES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCH = 8
BATCH_SIDES = (256, 512, 1024)

COMPILED_SIDES = (4096, 512)
"""For compiled baselines: each size takes up to a minute to compile. The first is the one of the thresholds."""

BASELINES = ("eager fp32", "eager fp16", "compiled fp32", "compiled tf32", "compiled fp16")

BASELINE_SECONDS = 80.0
"""Time limit for each naive baseline, so that the benchmark takes about ten minutes."""

SLOW_MILLISECONDS = 500.0
"""Images that take longer are timed once."""

LAUNCH_CYCLES = 40_000_000
"""Clock cycles for which the GPU is kept busy while work is launched, some 20 ms."""

DEMO = Path(__file__).parents[2] / "model" / "demo" / "demo.safetensors"


@torch.no_grad()
def run_cuda(
    checkpoint: Path | None,
    preset: str,
    size: tuple[int, int] | None = None,
    *,
    kernels_only: bool = False,
    save: Callable[[Report], object] = lambda report: None,
) -> Report:
    """Measure kernels and baselines with a checkpoint, or with random weights of a preset.

    Args:
        size: width and height of the images; by default all of SIDES.
        kernels_only: leave the baselines out.
        save: called after each measurement.

    Raises:
        InputError: the checkpoint cannot be used, or the GPU is not supported.
    """
    torch.manual_seed(0)
    generator = Checkpoint.open(checkpoint).load() if checkpoint else Generator(PRESETS[preset]).eval()
    generator = generator.requires_grad_(False).cuda()
    launch_configs = get_launch_configs(*torch.cuda.get_device_capability())
    report = Report(
        network=checkpoint.name if checkpoint else preset,
        config=generator.config,
        device=torch.cuda.get_device_name(),
        matrix_teraflops=matrix_teraflops(),
        copy_gigabytes=copy_gigabytes(),
        precision=measure_accuracy(generator, launch_configs[:1]),
        demo_precision=measure_accuracy(Checkpoint.open(DEMO).load().cuda(), launch_configs),
    )
    model = PackedModel(generator, launch_configs[0], 1)
    sizes = [size] if size else [(side, side) for side in SIDES]
    save(report)
    # Kernels first, in case the run is interrupted.
    baselines = () if kernels_only else _measure_baselines(generator, sizes)
    for result in itertools.chain(_measure_kernels(model, sizes), baselines):
        if isinstance(result, Measurement):
            report.measurements.append(result)
        else:
            report.skipped.append(result)
        print(result, file=sys.stderr, flush=True)
        save(report)
    return report


def matrix_teraflops() -> float:
    """TFLOP/s of a product of two random 8192² matrices in fp16."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    return 2 * 8192**3 / quantiles(lambda: a @ b)[0] / 1e9


def copy_gigabytes() -> float:
    """GB/s, read and written, of a copy of 2 GiB on the device."""
    source = torch.empty(2**31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.nbytes / quantiles(lambda: target.copy_(source))[0] / 1e6


def quantiles(function: Callable[[], object]) -> tuple[float, float, float]:
    """Milliseconds on the device: median, 20 % and 80 % quantiles."""
    median, low, high = do_bench(function, quantiles=[0.5, 0.2, 0.8])
    return float(median), float(low), float(high)


def device_milliseconds(function: Callable[[], object], repeats: int = 10) -> float:
    """Median time of a function's work on the device, launched while the device is busy. It must not synchronise."""
    times: list[float] = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(LAUNCH_CYCLES)  # type: ignore[no-untyped-call]
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def measure_accuracy(generator: Generator, launch_configs: Sequence[LaunchConfig]) -> list[AccuracyReport]:
    """The accuracy of a network in each precision that has a launch config."""
    probes = make_probes(generator)
    return [
        measure(ARITHMETIC[parts], TritonBackend(PackedModel(generator, config, parts)).colours, probes)
        for parts, config in enumerate(launch_configs, start=1)
    ]


def _measure_kernels(model: PackedModel, sizes: Sequence[tuple[int, int]]) -> Iterator[Measurement | Skipped]:
    small = [size for size in sizes if math.prod(size) <= BATCH_SIDES[-1] ** 2]
    for batch, (width, height) in [*itertools.product([1], sizes), *itertools.product([BATCH], small)]:
        try:
            yield measure_kernels(model, Viewport.resolve(width, height), batch)
        except RuntimeError as error:  # CUDA and Triton raise it without torch.OutOfMemoryError
            if "out of memory" not in str(error):
                raise
            yield Skipped(f"triton {width}×{height}, batch {batch}", "out of memory")


def _measure_baselines(generator: Generator, sizes: Sequence[tuple[int, int]]) -> Iterator[Measurement | Skipped]:
    """Naive baselines. Images that would take too long are skipped, and an error only skips one image."""
    for variant in BASELINES:
        spent = seconds_per_pixel = 0.0
        for width, height, batch in _baseline_images(sizes, compiled=variant.startswith("compiled")):
            pixels, name = width * height * batch, f"{variant} {width}×{height}, batch {batch}"
            if spent + 2 * pixels * seconds_per_pixel > BASELINE_SECONDS:  # rendered at least twice
                yield Skipped(name, f"{variant} would take more than {BASELINE_SECONDS:.0f} s in all")
                continue
            start = time.perf_counter()
            try:
                result = measure_baseline(NaiveBaseline(generator, variant), Viewport.resolve(width, height), batch)
                seconds_per_pixel = result.milliseconds / 1e3 / pixels
                yield result
            except RuntimeError as error:  # out of memory, or torch.compile failed
                yield Skipped(name, (str(error).strip() or type(error).__name__).splitlines()[0][:200])
            spent += time.perf_counter() - start
            torch.cuda.empty_cache()


def _baseline_images(sizes: Sequence[tuple[int, int]], compiled: bool) -> list[tuple[int, int, int]]:
    """Width, height and batch in the order of measurement; for eager baselines the smallest first."""
    if len(sizes) == 1:
        return [(*sizes[0], 1)]
    if compiled:
        return [(side, side, 1) for side in COMPILED_SIDES]
    return sorted([(*size, 1) for size in sizes] + [(side, side, BATCH) for side in BATCH_SIDES], key=math.prod)


def measure_kernels(model: PackedModel, viewport: Viewport, batch: int) -> Measurement:
    """Images of new latents; and images of the same latents, whose lines are cached, for the time of the pixels."""
    backend = TritonBackend(model)
    tiling, seeds = backend.plan(viewport), itertools.count(BATCH)

    def bands(fresh: bool, to_host: bool = False) -> Iterator[Band]:
        for i in range(batch):
            latent = any_latent(model.config, next(seeds) if fresh else i)
            for rows in tiling.bands():
                top, bottom = tiling.rows.visible(rows)
                shape = bottom - top, viewport.width, RGB
                # On the device only the shape matters.
                output = backend.allocate(*shape[:2]) if to_host else np.broadcast_to(np.uint8(0), shape)
                yield Band(latent, tiling, rows, output)

    def render_to_host() -> float:
        start = time.perf_counter()
        for _ in backend.render(bands(fresh=True, to_host=True), None):
            pass
        return (time.perf_counter() - start) * 1e3

    before, peak = _peak_memory(lambda: backend.render_on_device(bands(fresh=True)))
    median, low, high = quantiles(lambda: backend.render_on_device(bands(fresh=True)))
    pixels, *_ = quantiles(lambda: backend.render_on_device(bands(fresh=False)))
    render_to_host()
    return Measurement.of(
        "triton",
        model.config,
        viewport,
        batch,
        milliseconds=median,
        quantiles=(low, high),
        pixels_milliseconds=pixels,
        device_milliseconds=device_milliseconds(lambda: backend.render_on_device(bands(fresh=True))),
        host_milliseconds=statistics.median(render_to_host() for _ in range(5)),
        peak_bytes=max(peak - viewport.pixels * batch * RGB, before),
    )


def measure_baseline(baseline: NaiveBaseline, viewport: Viewport, batch: int) -> Measurement:
    """Images of a naive baseline, without the mapping network, whose time is negligible."""
    config = baseline.config
    ws = torch.randn(batch, config.num_ws, config.w_dim, device="cuda")

    def render() -> None:
        baseline.render(ws, viewport)
        torch.cuda.synchronize()

    _, peak = _peak_memory(render)
    start = time.perf_counter()
    render()
    median = low = high = (time.perf_counter() - start) * 1e3
    if median < SLOW_MILLISECONDS:
        median, low, high = quantiles(lambda: baseline.render(ws, viewport))
    height = viewport.height * viewport.supersampling(config.resolution, config.max_scale)[1]
    return Measurement.of(
        baseline.variant,
        config,
        viewport,
        batch,
        milliseconds=median,
        quantiles=(low, high),
        peak_bytes=peak - viewport.pixels * batch * RGB,
        bands=-(-height // baseline.band(batch, viewport)),
    )


def _peak_memory(function: Callable[[], object]) -> tuple[int, int]:
    """Run a function twice, to compile first; bytes allocated before the second run, and their peak during it."""
    function()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return before, torch.cuda.max_memory_allocated()
