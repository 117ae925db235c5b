"""The GPU benchmark as a picture: throughput over the size of pictures, and the roof above it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np


def draw_chart(report: dict[str, Any], path: Path) -> None:
    """Writes a PNG of a report of ``kernels.benchmark.cuda``. Where matplotlib is missing, a line on stderr says so."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"{path} was not drawn: matplotlib is not installed", file=sys.stderr)
        return
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    contestants: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for m in report["measurements"]:
        side = (m["width"] * m["height"]) ** 0.5
        contestants.setdefault((m["contestant"], m["batch"]), []).append((side, m["gigapixels"] * 1e3))
    for (contestant, batch), points in contestants.items():
        points.sort()
        label = contestant if batch == 1 else f"{contestant}, {batch} at a time"
        axes.plot(*zip(*points, strict=True), marker="o", linewidth=2 if contestant == "triton" else 1, label=label)
    sides = np.geomspace(256, 32768, 50)
    # A picture of side s, which averages m² colours for a pixel, takes m²·s² times the FLOPs of a pixel and 2·m·s times
    # those of a line.
    averaged = np.ceil(report["config"]["resolution"] / sides)
    flops = averaged**2 * report["pixel_flops"] + 2 * averaged * report["line_flops"] / sides
    axes.plot(sides, report["matrix_teraflops"] * 1e6 / flops, "k--", label="matrix products at their full rate")
    # Written once, 3 bytes a pixel; the copy counts reading and writing, half of which is writing.
    axes.axhline(report["copy_gigabytes"] * 1e3 / 2 / 3, color="grey", linestyle=":", label="writing 3 bytes a pixel")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [2**i for i in range(8, 16)]
    axes.set_xticks(ticks, [f"{tick}²" for tick in ticks])
    axes.set_xlabel("pixels of a picture")
    axes.set_ylabel("Mpixel/s")
    axes.set_title(f"{report['network']} on {report['gpu']}, {report['date']}")
    axes.grid(which="both", alpha=0.25)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
