"""What the kernels are to reach on an H200 with the paper's 512 network, and what is met of it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kernels.precision import MAX_LEVELS, MIN_PSNR, Agreement

if TYPE_CHECKING:
    from kernels.benchmark.figures import Measurement

GIGAPIXELS = 1.0
"""At 4096² and above."""

SPEED_UPS = {"eager fp32": 15.0, "compiled fp32": 5.0, "compiled fp16": 2.5}
"""At 4096², over the plain network."""

SMALL_MILLISECONDS = 1.0
"""For a picture of 512²."""

SMALL_PICTURES = 1500.0
"""Pictures of 512² a second, eight at a time."""

PEAK_BYTES = 2**30
"""On the device at 32768², beside the output."""


def check_targets(measurements: Sequence["Measurement"], demo: Sequence[Agreement]) -> list[str]:
    """A line for each target that was measured."""
    ours = {(m.width, m.height, m.batch): m for m in measurements if m.contestant == "triton"}
    others = {(m.contestant, m.width, m.height): m for m in measurements if m.contestant != "triton"}
    lines = []
    for (width, height, batch), m in ours.items():
        if width * height >= 4096**2 and batch == 1:
            lines.append(_line(f"{width}×{height}", m.gigapixels, ">=", GIGAPIXELS, "Gpixel/s"))
    if (large := ours.get((4096, 4096, 1))) is not None:
        for contestant, factor in SPEED_UPS.items():
            if (other := others.get((contestant, 4096, 4096))) is not None:
                ratio = other.milliseconds[0] / large.milliseconds[0]
                lines.append(_line(f"4096×4096 over {contestant}", ratio, ">=", factor, "times"))
    if (small := ours.get((512, 512, 1))) is not None:
        lines.append(_line("512×512", small.milliseconds[0], "<", SMALL_MILLISECONDS, "ms"))
    if (eight := ours.get((512, 512, 8))) is not None:
        rate = eight.batch / eight.milliseconds[0] * 1e3
        lines.append(_line("512×512, eight at a time", rate, ">=", SMALL_PICTURES, "pictures/s"))
    if (huge := ours.get((32768, 32768, 1))) is not None:
        lines.append(_line("32768×32768 beside the output", huge.peak_bytes / 2**20, "<", PEAK_BYTES / 2**20, "MiB"))
    if demo:
        best = next((agreement for agreement in demo if agreement.suffices), demo[-1])
        lines.append(_line(f"demo in {best.arithmetic}, from fp64", best.levels, "<=", MAX_LEVELS, "levels"))
        lines.append(_line(f"demo in {best.arithmetic}, from fp64", best.psnr, ">=", MIN_PSNR, "dB"))
    return lines


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda found, limit: found >= limit,
    "<=": lambda found, limit: found <= limit,
    "<": lambda found, limit: found < limit,
}


def _line(what: str, found: float, comparison: str, limit: float, unit: str) -> str:
    met = _COMPARISONS[comparison](found, limit)
    return f"{'met' if met else 'MISSED'}: {what}: {found:.4g} {unit}, to be {comparison} {limit:g}"
