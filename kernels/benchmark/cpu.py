"""A CPU's backends beside the plain network, called eagerly, and beside the machine's matrix products.

Every backend is measured in a process of its own, so that its peak memory is its own.
"""

import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from kernels.backend import layer_styles
from kernels.benchmark.work import count_macs
from kernels.cpu import Layer
from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.generator import COLUMNS, ROWS
from model.measuring import in_own_process, peak_memory, write_random_checkpoint
from model.spec import Latent, RenderSpec
from model.tables import align
from model.viewport import Viewport

SECONDS = 10.0
"""A measurement is repeated until this time has passed, but at most REPEATS times; the fastest counts."""

REPEATS = 5


@dataclass(frozen=True)
class Measurement:
    """One backend's picture.

    Attributes:
        backend: "cpu", or "reference": the network called on the whole picture at once.
        lines_seconds: from the latent to the lines of all rows and columns.
        pixels_seconds: from the lines to 8-bit pixels.
        gflops: multiplications and additions in both, per second, in units of 10⁹.
        peak_mib: most memory that the process ever held, Python and torch included.
    """

    backend: str
    lines_seconds: float
    pixels_seconds: float
    gflops: float
    peak_mib: float

    @property
    def seconds(self) -> float:
        return self.lines_seconds + self.pixels_seconds


def run_cpu(
    checkpoint: Path | None, preset: str, viewport: Viewport, backends: Sequence[str]
) -> tuple[str, dict[str, Any]]:
    """A table and the same as JSON-ready values, of a checkpoint or of random weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint
        if path is None:
            path = Path(folder) / f"{preset}.safetensors"
            in_own_process("random weights", write_random_checkpoint, path, preset)
        config = Checkpoint.open(path).config
        rate = in_own_process("matrix products", matrix_rate)
        measurements = [in_own_process(name, MEASURES[name], path, viewport) for name in backends]
    return _table(measurements, viewport, rate), _report(measurements, viewport, rate, config)


def matrix_rate() -> float:
    """GFLOP/s of the machine's fp32 matrix products, 1024³ on all cores: the faster one of MKL's and oneDNN's."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    layer = Layer(b, torch.zeros(1024))
    with torch.no_grad():
        seconds = min(_fastest(lambda: a @ b, 20, 2.0), _fastest(lambda: layer(a), 20, 2.0))
    return 2 * 1024**3 / seconds / 1e9


def measure_cpu(path: Path, viewport: Viewport) -> Measurement:
    """The renderer in bands, nothing kept of the picture. A second time the lines are in its cache."""
    renderer = Renderer(Checkpoint.open(path), "cpu", "cpu")
    config = renderer.config

    def seconds(seed: int) -> float:
        spec = RenderSpec("benchmark", _latent(config, seed), viewport)
        start = time.perf_counter()
        for _ in renderer.bands(spec):
            pass
        return time.perf_counter() - start

    renderer.render(RenderSpec("warm-up", _latent(config, 0), Viewport.resolve(64, 64, grid="corners")))
    timings: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(timings) < REPEATS and (not timings or time.perf_counter() - begin < SECONDS):
        seed = len(timings) + 1
        timings.append((seconds(seed), seconds(seed)))
    total, pixels = (min(values) for values in zip(*timings, strict=True))
    return _measurement("cpu", config, viewport, total - pixels, pixels)


@torch.no_grad()
def measure_reference(path: Path, viewport: Viewport) -> Measurement:
    """The network as a user of model.generator would call it, on the whole picture at once and all cores."""
    generator = Checkpoint.open(path).load()
    config, synthesis = generator.config, generator.synthesis
    m_x, m_y = viewport.supersampling(config.resolution)
    rows = torch.from_numpy(viewport.rows(0, viewport.height * m_y, config.resolution, m_y))
    columns = torch.from_numpy(viewport.columns(0, viewport.width * m_x, config.resolution, m_x))

    def lines() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        ws = layer_styles(config, generator.mapping, _latent(config, 1))
        return ws, synthesis.lines(ws, rows, ROWS), synthesis.lines(ws, columns, COLUMNS)

    def pixels() -> torch.Tensor:
        colours = torch.nn.functional.avg_pool2d(synthesis.pixels(*made), (m_y, m_x))
        return (colours * 127.5 + 128).clamp(0, 255).to(torch.uint8)

    synthesis(layer_styles(config, generator.mapping, _latent(config, 0)), rows[:64], columns[:64])  # warms up
    made = lines()
    return _measurement(
        "reference", config, viewport, _fastest(lines, REPEATS, SECONDS), _fastest(pixels, REPEATS, SECONDS)
    )


MEASURES: dict[str, Callable[[Path, Viewport], Measurement]] = {"cpu": measure_cpu, "reference": measure_reference}


def _fastest(function: Callable[[], object], repeats: int, seconds: float) -> float:
    timings: list[float] = []
    begin = time.perf_counter()
    while len(timings) < repeats and (not timings or time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        function()
        timings.append(time.perf_counter() - start)
    return min(timings)


def _measurement(name: str, config: GeneratorConfig, viewport: Viewport, lines: float, pixels: float) -> Measurement:
    gflops = 2 * sum(count_macs(config, viewport)) / (lines + pixels) / 1e9
    return Measurement(name, lines, pixels, gflops, peak_memory(torch.device("cpu")) / 2**20)


def _latent(config: GeneratorConfig, seed: int) -> Latent:
    return Latent(seed=seed, class_index=0 if config.classes else None)


def _table(measurements: Sequence[Measurement], viewport: Viewport, rate: float) -> str:
    reference = next((m for m in measurements if m.backend == "reference"), None)
    head = ["", "lines ms", "pixels ms", "total s", "Mpixel/s", "GFLOP/s", "of roof", "peak MiB"]
    ratios = ["total ×", "pixels ×", "memory ×"] if reference else []
    rows = [head + ratios]
    for m in measurements:
        row = [m.backend, f"{m.lines_seconds * 1e3:.0f}", f"{m.pixels_seconds * 1e3:.0f}", f"{m.seconds:.3f}"]
        row += [f"{viewport.pixels / m.seconds / 1e6:.3f}", f"{m.gflops:.0f}", f"{m.gflops / rate:.0%}"]
        row += [f"{m.peak_mib:.0f}"]
        if reference is not None:
            row += [
                f"{reference.seconds / m.seconds:.1f}",
                f"{reference.pixels_seconds / m.pixels_seconds:.1f}",
                f"{m.peak_mib / reference.peak_mib:.2f}",
            ]
        rows.append(row)
    roof = f"{viewport.width}×{viewport.height}; roof: {rate:.0f} GFLOP/s of fp32 matrix products, "
    return f"{roof}{torch.get_num_threads()} threads, torch {torch.__version__}\n{align(rows)}"


def _report(
    measurements: Sequence[Measurement], viewport: Viewport, rate: float, config: GeneratorConfig
) -> dict[str, Any]:
    return {
        "machine": platform.platform(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "config": config.to_dict(),
        "size": [viewport.width, viewport.height],
        "matrix_gflops": rate,
        "measurements": [asdict(measurement) for measurement in measurements],
    }
