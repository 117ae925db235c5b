"""Required speed, memory and accuracy of the GPU kernels, on an H200 with the paper's 512 network."""

import operator

from kernels.accuracy import MAX_LEVELS, MIN_PSNR
from kernels.benchmark.report import Report

GIGAPIXELS = 1.0
"""Gpixel/s at 4096² and above."""

SPEED_UPS = {"eager fp32": 15.0, "compiled fp32": 5.0, "compiled fp16": 2.5}
"""Ratio to a naive baseline at 4096²."""

SMALL_MILLISECONDS = 1.0
"""For an image of 512²."""

SMALL_IMAGES = 1500.0
"""Images of 512² per second, in batches of eight."""

PEAK_MIB = 1024.0
"""MiB of device memory at 32768², without the output."""

_COMPARISONS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def check_thresholds(report: Report) -> list[str]:
    """A line for each threshold that was measured."""
    lines = []

    def check(what: str, value: float, sign: str, limit: float, unit: str) -> None:
        result = "met" if _COMPARISONS[sign](value, limit) else "MISSED"
        lines.append(f"{result}: {what}: {value:.4g} {unit}, required {sign} {limit:g}")

    large = next((m for m in report.measurements if m.name == "triton 4096×4096, batch 1"), None)
    for m in report.measurements:
        size = f"{m.width}×{m.height}"
        if m.variant == "triton" and m.batch == 1 and m.width * m.height >= 4096**2:
            check(size, m.gigapixels, ">=", GIGAPIXELS, "Gpixel/s")
        if m.name == "triton 512×512, batch 1":
            check(size, m.milliseconds, "<", SMALL_MILLISECONDS, "ms")
        if m.name == "triton 512×512, batch 8":
            check(f"{size}, batch 8", 8 / m.milliseconds * 1e3, ">=", SMALL_IMAGES, "images/s")
        if m.name == "triton 32768×32768, batch 1":
            check(f"{size} without the output", m.peak_bytes / 2**20, "<", PEAK_MIB, "MiB")
        if large and m.variant in SPEED_UPS and (m.width, m.height, m.batch) == (4096, 4096, 1):
            ratio = m.milliseconds / large.milliseconds
            check(f"{size} over {m.variant}", ratio, ">=", SPEED_UPS[m.variant], "times")
    if report.demo_precision:
        best = next((accuracy for accuracy in report.demo_precision if accuracy.passes), report.demo_precision[-1])
        check(f"demo in {best.arithmetic}", best.levels, "<=", MAX_LEVELS, "levels")
        check(f"demo in {best.arithmetic}", best.psnr, ">=", MIN_PSNR, "dB")
    return lines
