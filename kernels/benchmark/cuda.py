"""A GPU's kernels beside the plain network, eager and compiled, and beside what the GPU can do at most.

Times are medians of CUDA events around the work, with the L2 cache flushed before each run, but for pictures of the
plain network that take over half a second: those are timed once. Those "to memory" are
wall-clock times until the pixels lie in pinned memory of the host.
"""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from triton.testing import do_bench

from kernels.benchmark.figures import LeftOut, Measurement, make_measurement, quantiles, render_text
from kernels.benchmark.plain import Reference, measure_reference, reference_name
from kernels.benchmark.targets import check_targets
from kernels.drawer import Band
from kernels.gpu import GpuDrawer
from kernels.network import ARITHMETIC, GpuNetwork
from kernels.plans import find_plan
from kernels.precision import Agreement, make_probes, measure
from model.checkpoint import Checkpoint
from model.config import PRESETS, RGB, GeneratorConfig
from model.generator import Generator
from model.spec import Latent
from model.viewport import Viewport

SIDES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCH = 8
BATCH_SIDES = (256, 512, 1024)

COMPILED_SIDES = (4096, 512)
"""For the compiled network: each size takes the compiler up to a minute, and larger ones are drawn in like bands. First
the one that the targets compare."""

REFERENCE_SECONDS = 80.0
"""For each of the four plain contestants, so that all is measured within ten minutes."""

DEMO = Path(__file__).parents[2] / "model" / "demo" / "demo.safetensors"


@torch.no_grad()
def run_cuda(checkpoint: Path | None, preset: str, size: tuple[int, int] | None) -> tuple[str, dict[str, Any]]:
    """A table, what is met of what is aimed at, and both as JSON-ready values.

    Raises:
        InputError: the checkpoint cannot be used, or there is no launch plan for the GPU.
    """
    device = torch.device("cuda")
    generator = _load(checkpoint, preset).to(device)
    plan = find_plan(*torch.cuda.get_device_capability())
    matrix_rate, bandwidth = matrix_product_rate(), copy_bandwidth()
    probes = make_probes(generator)
    network = GpuNetwork(generator, plan, 1)
    precision = [measure(ARITHMETIC[1], GpuDrawer(network).colours, probes)]
    demo = measure_demo(device)  # before all that takes long, which its absence would waste
    sizes = [size] if size else [(side, side) for side in SIDES]
    measurements: list[Measurement] = []
    left_out: list[LeftOut] = []
    # The kernels first, so that they have been measured if time runs out.
    for result in itertools.chain(_measure_kernels(network, sizes), _measure_references(generator, sizes)):
        if isinstance(result, Measurement):
            measurements.append(result)
        else:
            left_out.append(result)
        print(result, file=sys.stderr, flush=True)
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "network": preset if checkpoint is None else checkpoint.name,
        "config": generator.config.to_dict(),
        "pixel_flops": 2 * generator.config.pixel_macs,
        "line_flops": 2 * generator.config.line_macs,
        "matrix_teraflops": matrix_rate,
        "copy_gigabytes": bandwidth,
        "precision": [asdict(agreement) for agreement in precision],
        "demo_precision": [asdict(agreement) for agreement in demo],
        "measurements": [asdict(m) | {"gigapixels": m.gigapixels, "teraflops": m.teraflops} for m in measurements],
        "left_out": [asdict(pictures) for pictures in left_out],
    }
    return render_text(report, measurements, check_targets(measurements, demo)), report


def matrix_product_rate() -> float:
    """TFLOP/s of a product of two random 8192² matrices in fp16."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    return float(2 * 8192**3 / do_bench(lambda: a @ b, return_mode="median") / 1e9)


def copy_bandwidth() -> float:
    """GB/s, read and written, of a copy of 2 GiB on the device."""
    source = torch.empty(2**31, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return float(2 * source.nbytes / do_bench(lambda: target.copy_(source), return_mode="median") / 1e6)


def measure_demo(device: torch.device) -> list[Agreement]:
    """The precision of both arithmetics on the demo network."""
    generator = Checkpoint.open(DEMO).load().to(device)
    plan, probes = find_plan(*torch.cuda.get_device_capability()), make_probes(generator)
    return [
        measure(ARITHMETIC[parts], GpuDrawer(GpuNetwork(generator, plan, parts)).colours, probes)
        for parts in (1, 2)
        if plan.of(parts) is not None
    ]


def _measure_kernels(network: GpuNetwork, sizes: Sequence[tuple[int, int]]) -> Iterator[Measurement | LeftOut]:
    several = [size for size in sizes if size[0] * size[1] <= BATCH_SIDES[-1] ** 2]
    for batch, drawn in ((1, sizes), (BATCH, several)):
        for width, height in drawn:
            try:
                yield measure_kernels(network, Viewport.resolve(width, height), batch)
            except RuntimeError as error:  # also what CUDA and Triton raise, which is no torch.OutOfMemoryError
                if "out of memory" not in str(error):
                    raise
                yield LeftOut(f"triton {width}×{height}, batch {batch}", "the GPU's memory is full")


def _measure_references(generator: Generator, sizes: Sequence[tuple[int, int]]) -> Iterator[Measurement | LeftOut]:
    """The plain network, but for pictures that would take too long. What fails costs no other figure."""
    for compiled, autocast in itertools.product((False, True), (False, True)):
        name = reference_name(autocast=autocast, compiled=compiled)
        spent = seconds_per_pixel = 0.0
        for width, height, batch in _reference_pictures(sizes, compiled):
            pixels, which = width * height * batch, f"{name} {width}×{height}, batch {batch}"
            if spent + 2 * pixels * seconds_per_pixel > REFERENCE_SECONDS:  # drawn twice at least
                yield LeftOut(which, f"it would take {name} more than {REFERENCE_SECONDS:.0f} s in all")
                continue
            start = time.perf_counter()
            try:
                reference = Reference(generator, autocast=autocast, compiled=compiled)
                result = measure_reference(reference, Viewport.resolve(width, height), batch)
                seconds_per_pixel = result.milliseconds[0] / 1e3 / pixels
                yield result
            except RuntimeError as error:  # out of memory, or torch.compile cannot
                yield LeftOut(which, (str(error).strip() or type(error).__name__).splitlines()[0][:200])
            spent += time.perf_counter() - start
            torch.cuda.empty_cache()


def _reference_pictures(sizes: Sequence[tuple[int, int]], compiled: bool) -> list[tuple[int, int, int]]:
    """Width, height and batch in the order of measuring: of the eager network the fewest pixels first."""
    if len(sizes) == 1:
        return [(*sizes[0], 1)]
    if compiled:
        return [(side, side, 1) for side in COMPILED_SIDES]
    pictures = [(*size, 1) for size in sizes] + [(side, side, BATCH) for side in BATCH_SIDES]
    return sorted(pictures, key=math.prod)


def measure_kernels(network: GpuNetwork, viewport: Viewport, batch: int) -> Measurement:
    """Pictures of latents that have not been drawn before; then the same again, whose lines are kept."""
    drawer = GpuDrawer(network)
    config, seeds = network.config, itertools.count(BATCH)

    def bands(fresh: bool, outputs: bool) -> Iterator[Band]:
        for i in range(batch):
            latent = _latent(config, next(seeds) if fresh else i)
            tiling = drawer.plan(viewport)
            for rows in tiling.bands():
                top, bottom = tiling.rows.visible(rows)
                shape = bottom - top, viewport.width, RGB
                # On the device only the shape matters.
                output = drawer.allocate(*shape[:2]) if outputs else np.broadcast_to(np.uint8(0), shape)
                yield Band(latent, tiling, rows, output)

    def to_memory() -> None:
        for _ in drawer.draw(bands(fresh=True, outputs=True), None):
            pass

    drawer.draw_on_device(bands(fresh=True, outputs=False))  # compiles, captures, allocates
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    drawer.draw_on_device(bands(fresh=True, outputs=False))
    torch.cuda.synchronize()
    size = viewport.pixels * batch * RGB
    peak = max(torch.cuda.max_memory_allocated() - size, before)
    total = quantiles(lambda: drawer.draw_on_device(bands(fresh=True, outputs=False)))
    pixels = quantiles(lambda: drawer.draw_on_device(bands(fresh=False, outputs=False)))
    to_memory()
    return replace(
        make_measurement("triton", config, viewport, batch, total, peak),
        pixels_milliseconds=pixels[0],
        memory_milliseconds=_wall_clock(to_memory),
    )


def _wall_clock(function: Callable[[], object], repeats: int = 5) -> float:
    """Median milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2] * 1e3


def _load(checkpoint: Path | None, preset: str) -> Generator:
    if checkpoint is None:
        torch.manual_seed(0)
        return Generator(PRESETS[preset]).eval().requires_grad_(False)
    return Checkpoint.open(checkpoint).load()


def _latent(config: GeneratorConfig, seed: int) -> Latent:
    return Latent(seed=seed, class_index=0 if config.classes else None)
