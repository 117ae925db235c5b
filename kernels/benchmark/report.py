"""The result of a rendering benchmark, on a CPU or a GPU, as a table and as JSON."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from kernels.accuracy import AccuracyReport
from model.config import RGB, GeneratorConfig
from model.util.tables import align
from model.viewport import Viewport

BASELINES = "reference", "eager fp32"
"""Variants that ratios refer to."""


@dataclass(frozen=True)
class Measurement:
    """Time and memory of one variant for a batch of images of one size.

    Attributes:
        variant: a target of the native kernels, "cpu" or "triton", or a naive baseline: "reference" on a CPU,
            "eager fp32" … "compiled fp16" on a GPU. fp32 is without TF32, tf32 with it in matrix products.
        width, height, batch: size and number of the images.
        milliseconds: time of the batch, the fastest run on a CPU and the median on a GPU.
        flops: multiplications and additions of the batch.
        peak_bytes: peak memory: of the process on a CPU; on a GPU of the device, without the output.
        quantiles: 20 % and 80 % quantiles of the time on a GPU.
        pixels_milliseconds: time with lines that are already computed.
        device_milliseconds: time on a GPU that never waits for the CPU's launches.
        host_milliseconds: time until the pixels are in pinned memory of the host.
        bands: bands of rows that a naive baseline renders one after another on a GPU.
    """

    variant: str
    width: int
    height: int
    batch: int
    milliseconds: float
    flops: int
    peak_bytes: int
    quantiles: tuple[float, float] | None = None
    pixels_milliseconds: float | None = None
    device_milliseconds: float | None = None
    host_milliseconds: float | None = None
    bands: int | None = None

    @classmethod
    def of(
        cls, variant: str, config: GeneratorConfig, viewport: Viewport, batch: int, **measured: Any
    ) -> "Measurement":
        """The measured values of a batch, with its size and FLOPs."""
        flops = batch * count_flops(config, viewport)
        return cls(variant, viewport.width, viewport.height, batch, flops=flops, **measured)

    @property
    def name(self) -> str:
        return f"{self.variant} {self.width}×{self.height}, batch {self.batch}"

    @property
    def lines_milliseconds(self) -> float | None:
        """Time of everything before the pixels."""
        return None if self.pixels_milliseconds is None else self.milliseconds - self.pixels_milliseconds

    @property
    def gigapixels(self) -> float:
        """Gpixel/s."""
        return self.width * self.height * self.batch / self.milliseconds / 1e6

    @property
    def teraflops(self) -> float:
        """TFLOP/s."""
        return self.flops / self.milliseconds / 1e9

    def __str__(self) -> str:
        return f"{self.name}: {self.milliseconds:.3f} ms, {self.gigapixels:.3f} Gpixel/s"


@dataclass(frozen=True)
class Skipped:
    """Images that were not measured."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: skipped, {self.reason}"


@dataclass
class Report:
    """All results of a run.

    Attributes:
        network: preset or file name of the checkpoint.
        matrix_teraflops: TFLOP/s of matrix products, in fp32 on a CPU and fp16 on a GPU.
        bf16_teraflops: TFLOP/s of matrix products in bf16 on a CPU.
        copy_gigabytes: GB/s, read and written, of copies on a GPU.
        precision, demo_precision: accuracy of the GPU kernels for the network and for the demo checkpoint.
    """

    network: str
    config: GeneratorConfig
    device: str
    matrix_teraflops: float
    bf16_teraflops: float | None = None
    copy_gigabytes: float | None = None
    measurements: list[Measurement] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    precision: list[AccuracyReport] = field(default_factory=list)
    demo_precision: list[AccuracyReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    software: str = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"
    threads: int = field(default_factory=torch.get_num_threads)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        rates = "lines_milliseconds", "gigapixels", "teraflops"
        return asdict(self) | {
            "config": self.config.to_dict(),
            "pixel_flops": 2 * self.config.pixel_macs,
            "line_flops": 2 * self.config.line_macs,
            "measurements": [asdict(m) | {name: getattr(m, name) for name in rates} for m in self.measurements],
        }

    def table(self) -> str:
        """One line per measurement. Columns without values are left out."""
        baselines = {(m.width, m.height, m.batch): m for m in self.measurements if m.variant in BASELINES}

        def ratio(m: Measurement, value: Callable[[Measurement], float | None]) -> float | None:
            """Value of the baseline, divided by that of a measurement."""
            baseline = baselines.get((m.width, m.height, m.batch))
            ours, theirs = value(m), baseline and value(baseline)
            return theirs / ours if ours and theirs else None

        columns: list[tuple[str, str, Callable[[Measurement], Any]]] = [
            ("", "", lambda m: m.variant),
            ("size", "", lambda m: f"{m.width}×{m.height}"),
            ("batch", "", lambda m: m.batch),
            ("ms", ".3f", lambda m: m.milliseconds),
            ("20 %", ".3f", lambda m: m.quantiles and m.quantiles[0]),
            ("80 %", ".3f", lambda m: m.quantiles and m.quantiles[1]),
            ("lines ms", ".3f", lambda m: m.lines_milliseconds),
            ("pixels ms", ".3f", lambda m: m.pixels_milliseconds),
            ("GPU ms", ".3f", lambda m: m.device_milliseconds),
            ("to host ms", ".3f", lambda m: m.host_milliseconds),
            ("Mpixel/s", ".3f", lambda m: m.gigapixels * 1e3),
            ("images/s", ".1f", lambda m: m.batch / m.milliseconds * 1e3),
            ("TFLOP/s", ".3f", lambda m: m.teraflops),
            ("of matrix rate", ".1%", lambda m: m.teraflops / self.matrix_teraflops),
            ("output GB/s", ".3f", lambda m: RGB * m.gigapixels),
            ("peak MiB", ".0f", lambda m: m.peak_bytes / 2**20),
            ("bands", "", lambda m: m.bands),
            ("speed ×", ".1f", lambda m: ratio(m, lambda m: m.milliseconds)),
            ("pixels ×", ".1f", lambda m: ratio(m, lambda m: m.pixels_milliseconds)),
            ("memory ×", ".2f", lambda m: ratio(m, lambda m: 1 / m.peak_bytes)),
        ]
        cells = []
        for title, form, value in columns:
            values = [value(m) for m in self.measurements]
            if any(v is not None for v in values):
                cells.append([title, *("" if v is None else format(v, form) for v in values)])
        return align(list(zip(*cells, strict=True)), left=(0,))

    def __str__(self) -> str:
        rates = f"matrix products: {self.matrix_teraflops:.3g} TFLOP/s"
        if self.bf16_teraflops is not None:
            rates += f" in fp32, {self.bf16_teraflops:.3g} in bf16"
        if self.copy_gigabytes is not None:
            rates += f" in fp16; copies on the device: {self.copy_gigabytes:.0f} GB/s, read and written"
        head = f"{self.date} · {self.device}, {self.threads} threads · {self.software} · {self.network}"
        demo = [f"demo, {accuracy}" for accuracy in self.demo_precision]
        lines = [head, rates, self.table(), *self.notes, *map(str, self.skipped), *map(str, self.precision), *demo]
        if any(m.variant.endswith(" fp32") for m in self.measurements):
            lines.append("fp32 is without TF32; tf32 is fp32 with matrix products in TF32; fp16 is autocast")
        return "\n".join(lines)


def count_flops(config: GeneratorConfig, viewport: Viewport) -> int:
    """Multiplications and additions of an image, without what a backend computes beyond its edges."""
    m_x, m_y = viewport.supersampling(config.resolution, config.max_scale)
    width, height = viewport.width * m_x, viewport.height * m_y
    return 2 * ((width + height) * config.line_macs + width * height * config.pixel_macs)
