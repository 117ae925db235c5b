"""What is measured of pictures on a GPU, and how it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triton.testing import do_bench

from kernels.benchmark.work import count_macs
from kernels.precision import Agreement
from model.config import RGB, GeneratorConfig
from model.tables import align
from model.viewport import Viewport


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
        bands: of rows that the plain network drew one after the other; None for the kernels.
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
    bands: int | None = None

    @property
    def name(self) -> str:
        """Whose pictures, and which."""
        return f"{self.contestant} {self.width}×{self.height}, batch {self.batch}"

    @property
    def lines_milliseconds(self) -> float | None:
        """Median of the lines, with what else comes before the pixels; None where nothing is kept."""
        return None if self.pixels_milliseconds is None else self.milliseconds[0] - self.pixels_milliseconds

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

    def __str__(self) -> str:
        return f"{self.name}: {self.milliseconds[0]:.3f} ms, {self.gigapixels:.3f} Gpixel/s"


@dataclass(frozen=True)
class LeftOut:
    """Pictures that were not measured, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: left out, {self.reason}"


def make_measurement(
    contestant: str,
    config: GeneratorConfig,
    viewport: Viewport,
    batch: int,
    milliseconds: tuple[float, float, float],
    peak_bytes: int,
) -> Measurement:
    """What every contestant's measurement has."""
    flops = 2 * batch * sum(count_macs(config, viewport))
    return Measurement(contestant, viewport.width, viewport.height, batch, milliseconds, None, None, flops, peak_bytes)


def quantiles(function: Callable[[], object]) -> tuple[float, float, float]:
    """Milliseconds on the device: median, 20 % and 80 % quantiles."""
    median, low, high = do_bench(function, quantiles=[0.5, 0.2, 0.8])
    return float(median), float(low), float(high)


def render_text(report: dict[str, Any], measurements: list[Measurement], targets: list[str]) -> str:
    """The report for people."""
    rows = [
        ["", "size", "batch", "ms", "20 %", "80 %", "lines ms", "pixels ms", "to memory ms", "Mpixel/s", "pictures/s"]
    ]
    rows[0] += ["TFLOP/s", "of matrix rate", "GB/s", "peak MiB", "bands"]
    for m in measurements:
        times = [f"{value:.3f}" for value in m.milliseconds]
        others = m.lines_milliseconds, m.pixels_milliseconds, m.memory_milliseconds
        row = [
            m.contestant,
            f"{m.width}×{m.height}",
            str(m.batch),
            *times,
            *("" if v is None else f"{v:.3f}" for v in others),
            f"{m.gigapixels * 1e3:.1f}",
        ]
        row += [f"{m.batch / m.milliseconds[0] * 1e3:.1f}", f"{m.teraflops:.1f}"]
        row += [f"{m.teraflops / report['matrix_teraflops']:.1%}", f"{RGB * m.gigapixels:.2f}"]
        rows.append([*row, f"{m.peak_bytes / 2**20:.0f}", "" if m.bands is None else str(m.bands)])
    head = (
        f"{report['date']} · {report['gpu']} · torch {report['torch']}, triton {report['triton']}, "
        f"CUDA {report['cuda']} · {report['network']}\n"
        f"matrix products in fp16: {report['matrix_teraflops']:.0f} TFLOP/s; "
        f"copies on the device: {report['copy_gigabytes']:.0f} GB/s, read and written"
    )
    left_out = [str(LeftOut(**figures)) for figures in report["left_out"]]
    precision = [str(Agreement(**figures)) for figures in report["precision"]]
    demo = [f"demo, {Agreement(**figures)}" for figures in report["demo_precision"]]
    return "\n".join([head, align(rows, left=(0,)), *left_out, *precision, *demo, "", *targets])
