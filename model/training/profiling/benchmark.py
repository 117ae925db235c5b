"""``creps benchmark train``: speed and memory of training.

Runs as ``python -m model.training.profiling.benchmark`` without the service installed. Every variant is measured in a
process of its own, so its peak memory and its failures do not affect the others.
"""

import argparse
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from model.config import GeneratorConfig
from model.errors import InputError
from model.generator import Generator
from model.training.config import TrainingConfig
from model.training.presets import PRESETS, resolve
from model.training.profiling.measure import Cost, measure_drawing, measure_training
from model.training.profiling.memory import estimate_peak_memory
from model.util.arguments import ArgumentParser, run, some_of
from model.util.device import find_device, installed_memory
from model.util.files import write_json
from model.util.measuring import in_own_process
from model.util.tables import align

VARIANTS: dict[str, dict[str, Any]] = {
    "in chunks": {},
    "in chunks, compiled": {"compile": True},
    "all kept": {"chunk_pixels": 0},
}
"""Overrides of a preset's training settings, by name."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "thickness 4": {"thickness": 4},
    "no decoders": {"decoders": False},
    "no layer-wise fusion": {"fusion": "last"},
}
"""Overrides of a preset's generator, by name: the networks of Table 4 in arXiv:2303.14157."""

BASELINES = ("all kept", "full")
"""The variants that speed and memory of the others are compared with."""

DEFAULT_PRESETS = ("ffhq-128", "ffhq-512", "ffhq-1024")
DEFAULT_ABLATION_PRESETS = ("ffhq-128",)

NOTE_LENGTH = 60
"""Characters of a failure in the table; the JSON file has the whole message."""


@dataclass(frozen=True)
class Measurement:
    """Results of one variant.

    Attributes:
        rehearsed_bytes: estimated peak memory of tensors.
        drawing: cost of drawing one image, only measured with ``--ablations``.
        failure: why a result is missing.
    """

    preset: str
    name: str
    config: TrainingConfig
    rehearsed_bytes: int | None = None
    training: Cost | None = None
    drawing: Cost | None = None
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        shape = self.config.generator
        network = {"parameters": count_parameters(shape), "pixel_flops": 2 * shape.pixel_macs}
        return {**asdict(self), "config": self.config.to_dict(), **network}


def main(arguments: Sequence[str]) -> None:
    """Measures and prints a table. Raises InputError for an invalid option."""
    options = _parser().parse_args(arguments)
    device = find_device(options.device)
    presets = options.presets or (DEFAULT_ABLATION_PRESETS if options.ablations else DEFAULT_PRESETS)
    on_cpu = device.type == "cpu"
    batch = 1 if options.batch is None and on_cpu else options.batch
    variants = [
        Measurement(preset, name, _config(preset, batch, overrides, options.ablations, on_cpu))
        for preset in presets
        for name, overrides in (ABLATIONS if options.ablations else VARIANTS).items()
        if not (on_cpu and overrides.get("compile"))
    ]
    measurements = []
    for variant in variants:
        measurements.append(_measure(variant, device, options.steps, options.ablations))
        print(_table(measurements[-1:]), file=sys.stderr, flush=True)  # an interruption does not lose it
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": f"{platform.machine()} CPU" if on_cpu else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "steps": options.steps,
    }
    print("{date}, {device}, {threads} threads, torch {torch}, Python {python}, medians of {steps}".format(**report))
    print(_table(measurements))
    if on_cpu:
        print("precision: fp32 for all presets, because few CPUs compute in fp16")
    if options.json is not None:
        report["measurements"] = [measurement.to_dict() for measurement in measurements]
        write_json(options.json, report)


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="creps benchmark train",
        description="Seconds for 1000 images of training, and peak memory, compared with keeping all activations.",
    )
    add = parser.add_argument
    default = f"default: {','.join(DEFAULT_PRESETS)}; with --ablations {','.join(DEFAULT_ABLATION_PRESETS)}"
    add("--presets", type=some_of(PRESETS), metavar="A,B", help=default)
    add("--batch", type=int, metavar="N", help="images of a step (default: the preset's; on a CPU 1)")
    add("--steps", type=int, default=3, choices=range(1, 101), metavar="N", help="timed of each kind (default: 3)")
    add("--ablations", action="store_true", help="the networks of the CREPS paper's Table 4 instead")
    add("--device", default="auto", help="cuda, cuda:1, cpu or auto (default)")
    add("--json", type=Path, metavar="FILE", help="write the results to this file, too")
    return parser


def _config(preset: str, batch: int | None, overrides: dict[str, Any], ablation: bool, on_cpu: bool) -> TrainingConfig:
    """The preset with the overrides, for the given batch and minibatch groups that divide it."""
    base = PRESETS[preset].config
    batch = base.batch if batch is None else batch
    training: dict[str, Any] = {"batch": batch, "minibatch_group": math.gcd(batch, base.minibatch_group)}
    if on_cpu:
        training["precision"] = "fp32"
    return resolve(preset, training, overrides) if ablation else resolve(preset, training | overrides, {})


def _measure(variant: Measurement, device: torch.device, steps: int, ablation: bool) -> Measurement:
    """Measures training if its estimated memory is available, and with ``ablation`` also drawing."""
    title, config = f"{variant.preset}, {variant.name}", variant.config
    try:
        if ablation:
            drawing = in_own_process(f"{title}: drawing", measure_drawing, config.generator, str(device), steps)
            variant = replace(variant, drawing=drawing)
        print(f"{title}: estimating memory", file=sys.stderr, flush=True)
        needed = estimate_peak_memory(replace(config, compile=False))
        variant = replace(variant, rehearsed_bytes=needed)
        if needed > installed_memory(device):
            return replace(variant, failure=f"needs {needed / 2**30:.1f} GiB")
        training = in_own_process(f"{title}: training", measure_training, config, str(device), steps)
    except Exception as error:  # must not lose the other variants' results
        text = error.message if isinstance(error, InputError) else str(error)
        return replace(variant, failure=text.removeprefix(f"{title}: ") or type(error).__name__)
    return replace(variant, training=training)


def _table(measurements: Sequence[Measurement]) -> str:
    """One row for each measurement. Columns without any value are left out."""
    baselines = {m.preset: m.training for m in measurements if m.name in BASELINES}
    rows = [_row(m, baselines.get(m.preset)) for m in measurements]
    columns = [column for column in rows[0] if any(row[column] for row in rows)]
    left = [i for i, column in enumerate(columns) if column in ("preset", "variant", "note")]
    return align([columns, *([row[column] for column in columns] for row in rows)], left)


def _row(measurement: Measurement, baseline: Cost | None) -> dict[str, str]:
    config, training, drawing = measurement.config, measurement.training, measurement.drawing
    shape = config.generator
    return {
        "preset": measurement.preset,
        "variant": measurement.name,
        "parameters": f"{count_parameters(shape):,}" if drawing else "",
        "MFLOP/pixel": f"{2 * shape.pixel_macs / 1e6:.3f}" if drawing else "",
        "s/image": f"{drawing.seconds:.3g}" if drawing else "",
        "batch": str(config.batch),
        "s/kimg": f"{training.seconds:,.{0 if training.seconds >= 100 else 2}f}" if training else "",
        "peak GiB": f"{training.peak_bytes / 2**30:.2f}" if training else "",
        "estimated": "" if measurement.rehearsed_bytes is None else f"{measurement.rehearsed_bytes / 2**30:.2f}",
        "speed ×": f"{baseline.seconds / training.seconds:.2f}" if training and baseline else "",
        "memory ×": f"{training.peak_bytes / baseline.peak_bytes:.2f}" if training and baseline else "",
        "note": measurement.failure.partition("\n")[0][:NOTE_LENGTH],
    }


def count_parameters(config: GeneratorConfig) -> int:
    """Number of trainable parameters of a generator."""
    with torch.device("meta"):
        generator = Generator(config)
    return sum(parameter.numel() for parameter in generator.parameters())


if __name__ == "__main__":
    sys.exit(run("python -m model.training.profiling.benchmark", main, sys.argv[1:]))
