"""Chart of a GPU benchmark: throughput against image size, with the limits of the GPU."""

import sys
from pathlib import Path

import numpy as np

from kernels.benchmark.report import Report


def draw_chart(report: Report, path: Path) -> None:
    """Write a PNG. Without matplotlib, print a line to stderr instead."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"{path} was not written: matplotlib is not installed", file=sys.stderr)
        return
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    variants: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for m in report.measurements:
        variants.setdefault((m.variant, m.batch), []).append(((m.width * m.height) ** 0.5, m.gigapixels * 1e3))
    for (variant, batch), points in variants.items():
        label = variant if batch == 1 else f"{variant}, batch {batch}"
        axes.plot(
            *zip(*sorted(points), strict=True), marker="o", linewidth=2 if variant == "triton" else 1, label=label
        )
    sides = np.geomspace(256, 32768, 50)
    # Supersampling by m² costs m²·s² times the FLOPs of a pixel and 2·m·s times those of a line, for s² pixels.
    factors = np.ceil(report.config.resolution / sides)
    flops = 2 * (factors**2 * report.config.pixel_macs + 2 * factors * report.config.line_macs / sides)
    axes.plot(sides, report.matrix_teraflops * 1e6 / flops, "k--", label="limit of matrix products")
    if report.copy_gigabytes is not None:  # 3 bytes are written per pixel; half of a copy is writing
        limit = report.copy_gigabytes * 1e3 / 2 / 3
        axes.axhline(limit, color="grey", linestyle=":", label="limit of writing 3 bytes per pixel")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [2**i for i in range(8, 16)]
    axes.set_xticks(ticks, [f"{tick}²" for tick in ticks])
    axes.set_xlabel("pixels per image")
    axes.set_ylabel("Mpixel/s")
    axes.set_title(f"{report.network} on {report.device}, {report.date}")
    axes.grid(which="both", alpha=0.25)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
