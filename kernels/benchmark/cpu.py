"""Benchmark of the CPU backends and the naive baseline, in turns, each in a process of its own for its peak memory."""

import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from kernels.backend import any_latent
from kernels.benchmark.naive_baseline import NaiveBaseline
from kernels.benchmark.report import Measurement, Report
from kernels.cpu import linear
from kernels.native.library import load_libraries
from kernels.renderer import Renderer
from kernels.style import Layer
from model.checkpoint import Checkpoint, save_random_checkpoint
from model.config import GeneratorConfig
from model.geometry.transforms import Transform
from model.latents.styles import layer_styles
from model.spec import RenderSpec
from model.util.measuring import in_own_process, peak_memory
from model.viewport import Viewport

TRANSFORMED = ", transformed"
"""Ends the names of variants that render transformed images."""

ROUNDS = 5
"""Rounds, in each of which every variant has its turn."""

SECONDS = 180.0
"""No further round begins after this time."""


@dataclass(frozen=True)
class Turn:
    """Milliseconds of one image, and of its pixels alone; on the clock and of all cores' processor time."""

    total: float
    pixels: float
    processor: float
    peak_bytes: int


def run_cpu(
    checkpoint: Path | None,
    preset: str,
    viewport: Viewport,
    backends: Sequence[str] | None,
    transform: Sequence[Transform] = (),
) -> Report:
    """Measure backends with a checkpoint, or with random weights of a preset.

    Args:
        backends: targets of kernels.native.library, "cpu" and "reference"; None for those that this CPU would use.
        transform: measure transformed images, too; without the reference.
    """
    variants = backends or [*(library.target for library in load_libraries()), "cpu", "reference"]
    shown = dict.fromkeys(variants, viewport)
    if transform:
        transformed = Viewport.resolve(viewport.width, viewport.height, transform=transform)
        shown = {variant: viewport for variant in variants if variant != "reference"}
        shown |= {f"{variant}{TRANSFORMED}": transformed for variant in shown}
        variants = [*shown]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        path = checkpoint or Path(folder) / f"{preset}.safetensors"
        if checkpoint is None:
            in_own_process("random weights", save_random_checkpoint, path, preset)
        report = Report(
            network=preset if checkpoint is None else checkpoint.name,
            config=Checkpoint.open(path).config,
            device=f"{_cpu_name()}, {platform.platform()}",
            matrix_teraflops=in_own_process("matrix products", matrix_teraflops, torch.float32),
            bf16_teraflops=in_own_process("matrix products in bf16", matrix_teraflops, torch.bfloat16),
        )
        pools = {
            variant: processes.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), initializer=_open, initargs=(variant, path, own))
            )
            for variant, own in shown.items()
        }
        turns: dict[str, list[Turn]] = {variant: [] for variant in variants}
        begin = time.perf_counter()
        while len(turns[variants[0]]) < ROUNDS and time.perf_counter() - begin < SECONDS:
            for variant, pool in pools.items():
                print(f"{variant} …", file=sys.stderr)
                turns[variant].append(pool.submit(_take_turn).result())
        report.measurements += [_measurement(variant, report.config, viewport, turns[variant]) for variant in variants]
        report.notes += [
            _ratio(f"cpu by {variant}", turns["cpu"], turns[variant])
            for variant in variants
            if variant not in ("cpu", "reference") and "cpu" in variants and not variant.endswith(TRANSFORMED)
        ]
        report.notes += [
            _ratio(f"{variant}{TRANSFORMED} by plain", turns[f"{variant}{TRANSFORMED}"], turns[variant])
            for variant in variants
            if f"{variant}{TRANSFORMED}" in variants
        ]
        return report


def matrix_teraflops(dtype: torch.dtype) -> float:
    """TFLOP/s of matrix products, 1024³ on all cores: in fp32 the faster of MKL and oneDNN."""
    a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    layer = Layer(b, torch.zeros(1024, dtype=dtype))
    with torch.no_grad():
        milliseconds = _fastest(lambda: a @ b)
        if dtype == torch.float32:  # oneDNN's layers refuse bf16 on CPUs that are slow at it
            milliseconds = min(milliseconds, _fastest(lambda: linear(layer, a)))
    return 2 * 1024**3 / milliseconds / 1e9


def _fastest(function: Callable[[], object], repeats: int = 20, seconds: float = 2.0) -> float:
    """Milliseconds of the fastest run."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < repeats and (not times or time.perf_counter() - begin < seconds):
        times.append(_time(function)[0])
    return min(times)


def _time(function: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the clock and of processor time, of one call."""
    start, processor = time.perf_counter(), time.process_time()
    function()
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - processor)


class _Backend:
    """A backend: images of new latents; and an image of a latent whose lines are cached."""

    def __init__(self, variant: str, path: Path, viewport: Viewport) -> None:
        variant = variant.removesuffix(TRANSFORMED)
        if variant != "cpu":
            os.environ["CREPS_NATIVE"] = variant
        self._renderer = Renderer(Checkpoint.open(path), "cpu", "cpu" if variant == "cpu" else "native")
        self._viewport = viewport
        self._seeds = itertools.count(1)
        self._render(0)

    def turn(self) -> Turn:
        total, processor = _time(lambda: self._render(next(self._seeds)))
        self._render(0)  # whose lines the cache may have lost
        return Turn(total, _time(lambda: self._render(0))[0], processor, peak_memory(torch.device("cpu")))

    def _render(self, seed: int) -> None:
        for _ in self._renderer.bands(RenderSpec("benchmark", any_latent(self._renderer.config, seed), self._viewport)):
            pass


class _Reference:
    """The naive baseline on the whole image at once and all cores."""

    def __init__(self, path: Path, viewport: Viewport) -> None:
        self._generator = Checkpoint.open(path).load()
        self._baseline = NaiveBaseline(self._generator, band_pixels=sys.maxsize)
        self._viewport = viewport
        self._baseline.render(self._styles(), Viewport.resolve(64, 64, grid="corners"))  # warm-up

    @torch.no_grad()
    def turn(self) -> Turn:
        ws = self._styles()
        lines = self._baseline.lines(ws, self._viewport)
        before, processor = _time(lambda: self._baseline.lines(self._styles(), self._viewport))
        pixels, more = _time(lambda: self._baseline.pixels(ws, lines, self._viewport))
        return Turn(before + pixels, pixels, processor + more, peak_memory(torch.device("cpu")))

    def _styles(self) -> torch.Tensor:
        config = self._generator.config
        return layer_styles(config, self._generator.mapping, any_latent(config, 1))


_opened: _Backend | _Reference
"""The variant of this process."""


def _open(variant: str, path: Path, viewport: Viewport) -> None:
    global _opened
    _opened = _Reference(path, viewport) if variant == "reference" else _Backend(variant, path, viewport)


def _take_turn() -> Turn:
    return _opened.turn()


def _measurement(variant: str, config: GeneratorConfig, viewport: Viewport, turns: Sequence[Turn]) -> Measurement:
    """The fastest turns, and the peak memory after the last."""
    total, pixels = min(turn.total for turn in turns), min(turn.pixels for turn in turns)
    peak = turns[-1].peak_bytes
    return Measurement.of(variant, config, viewport, 1, milliseconds=total, pixels_milliseconds=pixels, peak_bytes=peak)


def _ratio(name: str, turns: Sequence[Turn], others: Sequence[Turn]) -> str:
    """Ratios of times: how many times as long as the others."""

    def ratios(of: Callable[[Turn], float]) -> str:
        values = sorted(of(one) / of(other) for one, other in zip(turns, others, strict=True))
        return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"

    total, pixels = ratios(lambda turn: turn.total), ratios(lambda turn: turn.pixels)
    processor = ratios(lambda turn: turn.processor)
    return f"{name}, round by round: {total}; pixels alone {pixels}; processor time {processor}"


def _cpu_name() -> str:
    """The processor's model as lscpu shows it, if Linux tells."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
