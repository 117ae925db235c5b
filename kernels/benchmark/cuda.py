"""A GPU's kernels beside the plain network, eager and compiled, and beside what the GPU can do at most.

Times are medians of CUDA events around the work, with the L2 cache flushed before each run, but for pictures of the
plain network that take over half a second: those are timed once. Those "to memory" are
wall-clock times until the pixels lie in pinned memory of the host.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from triton.testing import do_bench

from kernels.benchmark.table import align
from kernels.benchmark.targets import check_targets
from kernels.drawer import Band
from kernels.gpu import GpuDrawer
from kernels.network import ARITHMETIC, GpuNetwork
from kernels.plans import find_plan
from kernels.precision import Agreement, make_probes, measure
from model.config import PRESETS, RGB, GeneratorConfig
from model.errors import InputError
from model.generator import COLUMNS, ROWS, Generator
from model.spec import Latent
from model.viewport import Viewport

SIDES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
BATCH = 8
BATCH_SIDES = (256, 512, 1024)

COMPILED_SIDES = (512, 4096)
"""For the compiled network: each size takes the compiler up to a minute, and larger ones are drawn in like bands."""

SLOW = 0.5
"""Seconds from which a picture of the plain network is timed once, not many times."""

REFERENCE_PIXELS = 1 << 22
"""Pixels that the plain network draws at once: their widest activations are 2 GiB in fp32."""

QUANTILES = (0.5, 0.2, 0.8)

DEMO = Path(__file__).parents[2] / "model" / "demo" / "demo.safetensors"


@dataclass(frozen=True)
class Measurement:
    """One contestant's pictures of one size.

    Attributes:
        contestant: "triton", "eager fp32", "eager fp16", "compiled fp32" or "compiled fp16".
        width, height, batch: pictures of batch × width × height pixels.
        milliseconds: median of the whole batch, and its 20 % and 80 % quantiles.
        pixels_milliseconds: the same with lines that were kept from before; None where nothing is kept.
        memory_milliseconds: median until the pixels lie in the host's memory; None where that was not measured.
        flops: multiplications and additions of the batch.
        peak_bytes: most memory that was allocated on the device, without the pictures themselves.
    """

    contestant: str
    width: int
    height: int
    batch: int
    milliseconds: tuple[float, float, float]
    pixels_milliseconds: float | None
    memory_milliseconds: float | None
    flops: int
    peak_bytes: int

    @property
    def pixels(self) -> int:
        return self.width * self.height * self.batch

    @property
    def gigapixels(self) -> float:
        """Gpixel/s."""
        return self.pixels / self.milliseconds[0] / 1e6

    @property
    def teraflops(self) -> float:
        """TFLOP/s."""
        return self.flops / self.milliseconds[0] / 1e9


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
    sizes = [size] if size else [(side, side) for side in SIDES]
    measurements: list[Measurement] = []
    for measurement in _measure_all(network, generator, sizes):
        measurements.append(measurement)
        print(_progress(measurement), file=sys.stderr, flush=True)
    demo = measure_demo(device)
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
    }
    return render_text(report, measurements, check_targets(measurements, demo)), report


def render_text(report: dict[str, Any], measurements: list[Measurement], targets: list[str]) -> str:
    """The report for people."""
    rows = [["", "size", "batch", "ms", "20 %", "80 %", "pixels ms", "to memory ms", "Mpixel/s", "pictures/s"]]
    rows[0] += ["TFLOP/s", "of matrix rate", "GB/s", "peak MiB"]
    for m in measurements:
        times = [f"{value:.3f}" for value in m.milliseconds]
        others = ["" if v is None else f"{v:.3f}" for v in (m.pixels_milliseconds, m.memory_milliseconds)]
        row = [m.contestant, f"{m.width}×{m.height}", str(m.batch), *times, *others, f"{m.gigapixels * 1e3:.1f}"]
        row += [f"{m.batch / m.milliseconds[0] * 1e3:.1f}", f"{m.teraflops:.1f}"]
        row += [f"{m.teraflops / report['matrix_teraflops']:.1%}", f"{RGB * m.gigapixels:.2f}"]
        rows.append([*row, f"{m.peak_bytes / 2**20:.0f}"])
    head = (
        f"{report['date']} · {report['gpu']} · torch {report['torch']}, triton {report['triton']}, "
        f"CUDA {report['cuda']} · {report['network']}\n"
        f"matrix products in fp16: {report['matrix_teraflops']:.0f} TFLOP/s; "
        f"copies on the device: {report['copy_gigabytes']:.0f} GB/s, read and written"
    )
    precision = [str(Agreement(**figures)) for figures in report["precision"]]
    demo = [f"demo, {Agreement(**figures)}" for figures in report["demo_precision"]]
    return "\n".join([head, align(rows, left=(0,)), *precision, *demo, "", *targets])


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
    """The precision of both arithmetics on the demo network; nothing where safetensors is not installed."""
    try:
        from model.checkpoint import Checkpoint
    except ImportError:
        return []
    generator = Checkpoint.open(DEMO).load().to(device)
    plan, probes = find_plan(*torch.cuda.get_device_capability()), make_probes(generator)
    return [
        measure(ARITHMETIC[parts], GpuDrawer(GpuNetwork(generator, plan, parts)).colours, probes)
        for parts in (1, 2)
        if plan.of(parts) is not None
    ]


def _measure_all(network: GpuNetwork, generator: Generator, sizes: list[tuple[int, int]]) -> Iterator[Measurement]:
    """The kernels first, so that they have been measured if time runs out."""
    wanted = sizes if len(sizes) == 1 else None
    for width, height in sizes:
        yield measure_kernels(network, Viewport.resolve(width, height), 1)
    for width, height in wanted or [(side, side) for side in BATCH_SIDES]:
        yield measure_kernels(network, Viewport.resolve(width, height), BATCH)
    for compiled in (False, True):
        several = [] if compiled else [(side, BATCH) for side in BATCH_SIDES]
        sides = [(side, 1) for side in (COMPILED_SIDES if compiled else SIDES)] + several
        for autocast in (False, True):
            for width, height, batch in [(*size, 1) for size in wanted or ()] or [(s, s, n) for s, n in sides]:
                reference = Reference(generator, autocast=autocast, compiled=compiled)
                yield measure_reference(reference, Viewport.resolve(width, height), batch)
                torch.cuda.empty_cache()


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
    total = _quantiles(lambda: drawer.draw_on_device(bands(fresh=True, outputs=False)))
    pixels = _quantiles(lambda: drawer.draw_on_device(bands(fresh=False, outputs=False)))
    to_memory()
    return replace(
        _measurement("triton", config, viewport, batch, total, peak),
        pixels_milliseconds=pixels[0],
        memory_milliseconds=_wall_clock(to_memory),
    )


class Reference:
    """model.generator on the GPU, in bands of rows that fit its memory."""

    def __init__(self, generator: Generator, *, autocast: bool, compiled: bool) -> None:
        self.name = f"{'compiled' if compiled else 'eager'} {'fp16' if autocast else 'fp32'}"
        self.config = generator.config
        self._generator = generator
        self._autocast = autocast
        synthesis = generator.synthesis
        self._lines: Callable[..., Tensor] = synthesis.lines
        self._pixels: Callable[..., Tensor] = synthesis.pixels
        if compiled:
            torch.compiler.reset()
            self._lines, self._pixels = torch.compile(synthesis.lines), torch.compile(synthesis.pixels)

    def draw(self, ws: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels uint8 [N, H, W, 3] of styles [N, num_ws, w_dim] and network coordinates [H] and [W]."""
        output = torch.empty(len(ws), len(rows), len(columns), RGB, dtype=torch.uint8, device=ws.device)
        height = max(REFERENCE_PIXELS // (len(columns) * len(ws)), 1)
        with torch.autocast(ws.device.type, torch.float16, enabled=self._autocast):
            row_lines, column_lines = self._lines(ws, rows, ROWS), self._lines(ws, columns, COLUMNS)
            for top in range(0, len(rows), height):
                colours = self._pixels(ws, row_lines[:, :, :, top : top + height], column_lines).permute(0, 2, 3, 1)
                output[:, top : top + height] = (colours.float() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
        return output


def measure_reference(reference: Reference, viewport: Viewport, batch: int) -> Measurement:
    """Pictures of the plain network, without the mapping, which takes no time."""
    config = reference.config
    ws = torch.randn(batch, config.num_ws, config.w_dim, device="cuda")
    rows = torch.from_numpy(viewport.rows(0, viewport.height, config.resolution)).cuda()
    columns = torch.from_numpy(viewport.columns(0, viewport.width, config.resolution)).cuda()
    reference.draw(ws, rows, columns)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    reference.draw(ws, rows, columns)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() - viewport.pixels * batch * RGB
    times = (seconds * 1e3,) * 3
    if seconds < SLOW:
        times = _quantiles(lambda: reference.draw(ws, rows, columns))
    return _measurement(reference.name, config, viewport, batch, times, peak)


def _measurement(
    contestant: str,
    config: GeneratorConfig,
    viewport: Viewport,
    batch: int,
    milliseconds: tuple[float, float, float],
    peak_bytes: int,
) -> Measurement:
    lines = (viewport.width + viewport.height) * config.line_macs
    flops = 2 * batch * (lines + viewport.pixels * config.pixel_macs)
    return Measurement(contestant, viewport.width, viewport.height, batch, milliseconds, None, None, flops, peak_bytes)


def _quantiles(function: Callable[[], object]) -> tuple[float, float, float]:
    median, low, high = do_bench(function, quantiles=list(QUANTILES))
    return float(median), float(low), float(high)


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
    try:
        from model.checkpoint import Checkpoint
    except ImportError:
        raise InputError("--checkpoint", "needs the package safetensors") from None
    return Checkpoint.open(checkpoint).load()


def _latent(config: GeneratorConfig, seed: int) -> Latent:
    return Latent(seed=seed, class_index=0 if config.classes else None)


def _progress(m: Measurement) -> str:
    return (
        f"{m.contestant} {m.width}×{m.height}, batch {m.batch}: {m.milliseconds[0]:.3f} ms, {m.gigapixels:.3f} Gpixel/s"
    )
