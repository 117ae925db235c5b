"""How fast recipes train, and in how much memory: ``creps benchmark train``.

As ``python -m model.training.benchmark`` it needs nothing but torch, numpy and pillow. Every contestant is measured in
a process of its own, so that its peak memory is its own and its failure costs no other's figures.
"""

import argparse
import functools
import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from model.arguments import ArgumentParser, run
from model.config import GeneratorConfig
from model.device import find_device, installed_memory
from model.errors import InputError
from model.files import write_atomically
from model.generator import Generator
from model.measuring import in_own_process
from model.tables import align
from model.training.config import TrainingConfig
from model.training.cost import Cost, measure_drawing, measure_training
from model.training.presets import PRESETS, resolve
from model.training.rehearsal import rehearse

CONTESTANTS: dict[str, dict[str, Any]] = {
    "in chunks": {},
    "in chunks, compiled": {"compile": True},
    "all kept": {"chunk_pixels": 0},
}
"""Ways to train a preset, by what they change in its recipe."""

REFERENCE = "all kept"

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "thickness 4": {"thickness": 4},
    "no decoders": {"decoders": False},
    "no layer-wise fusion": {"fusion": "last"},
}
"""The networks of Table 4 in arXiv:2303.14157, by what they change in a preset's generator."""

CONTESTED = "ffhq-128,ffhq-512,ffhq-1024"
ABLATED = "ffhq-128"
"""The presets that are measured where none are named."""

NOTE_LENGTH = 60
"""Characters of a failure that the table shows; the JSON file has all."""


@dataclass(frozen=True)
class Measurement:
    """One contestant's figures, as far as it got.

    Attributes:
        rehearsed_bytes: the memory that a rehearsal of the recipe counts, in tensors alone.
        training: of an average step.
        drawing: of one picture; only of ablations.
        failure: why figures are missing.
    """

    preset: str
    name: str
    config: TrainingConfig
    rehearsed_bytes: int | None = None
    training: Cost | None = None
    drawing: Cost | None = None
    failure: str = ""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, measures, prints a table. Raises InputError for an option that cannot be used."""
    options = _parser().parse_args(arguments)
    device = find_device(options.device)
    default = ABLATED if options.ablations else CONTESTED
    names = (default if options.presets is None else options.presets).split(",")
    if unknown := [name for name in names if name not in PRESETS]:
        raise InputError("presets", f"must be of {', '.join(PRESETS)}, not {unknown[0]!r}")
    batch = 1 if options.batch is None and device.type == "cpu" else options.batch
    # Few CPUs can multiply in fp16, and the others take far longer than in fp32.
    precision = {"precision": "fp32"} if device.type == "cpu" else {}
    recipes = [
        (preset, name, _recipe(preset, batch, changes, options.ablations, precision))
        for preset in names
        for name, changes in (ABLATIONS if options.ablations else CONTESTANTS).items()
        if device.type == "cuda" or not changes.get("compile")
    ]
    measurements = []
    for recipe in recipes:
        measurements.append(_measure(*recipe, device, options.steps, options.ablations))
        print(_line(measurements[-1]), file=sys.stderr, flush=True)  # so that an interruption does not lose it
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "steps": options.steps,
    }
    print("{date}, {device}, {threads} threads, torch {torch}, Python {python}, medians of {steps}".format(**report))
    print(_ablation_table(measurements) if options.ablations else _table(measurements))
    if batch is not None:
        print(f"pictures a step: {batch}, for all presets (--batch N sets another number)")
    if precision:
        print("precision: fp32, for all presets, as CPUs are made for it")
    if options.json is not None:
        report["measurements"] = [_to_dict(measurement) for measurement in measurements]
        write_atomically(options.json, (json.dumps(report, indent=2) + "\n").encode())


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="creps benchmark train",
        description="Seconds for a thousand pictures of training, and peak memory, beside keeping all activations.",
    )
    add = parser.add_argument
    add("--presets", metavar="A,B", help=f"default: {CONTESTED}; with --ablations {ABLATED}")
    add("--batch", type=int, metavar="N", help="pictures of a step (default: the preset's; on a CPU 1)")
    add("--steps", type=int, default=3, choices=range(1, 101), metavar="N", help="timed of each kind (default: 3)")
    add("--ablations", action="store_true", help="the networks of the source's Table 4 instead")
    add("--device", default="auto", help="cuda, cuda:1, cpu or auto (default)")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    return parser


def _recipe(
    preset: str, batch: int | None, changes: Mapping[str, Any], ablation: bool, precision: Mapping[str, Any]
) -> TrainingConfig:
    """The preset, changed in its generator for an ablation, with so many pictures in groups that divide them."""
    base = PRESETS[preset].config
    pictures = base.batch if batch is None else batch
    recipe = {"batch": pictures, "minibatch_group": math.gcd(pictures, base.minibatch_group), **precision}
    return resolve(preset, recipe, dict(changes)) if ablation else resolve(preset, {**recipe, **changes}, {})


def _measure(
    preset: str, name: str, config: TrainingConfig, device: torch.device, steps: int, ablation: bool
) -> Measurement:
    """Draws where an ablation asks for it, and trains where a rehearsal says that the memory will do."""
    found = Measurement(preset, name, config)
    title = f"{preset}, {name}"
    try:
        if ablation:
            drawing = in_own_process(f"{title}: drawing", measure_drawing, config.generator, str(device), steps)
            found = replace(found, drawing=drawing)
        print(f"{title}: rehearsing", file=sys.stderr, flush=True)
        needed = rehearsed_peak(replace(config, compile=False))
        found = replace(found, rehearsed_bytes=needed)
        if needed > installed_memory(device):
            return replace(found, failure=f"needs {needed / 2**30:.1f} GiB")
        training = in_own_process(f"{title}: training", measure_training, config, str(device), steps)
    except Exception as error:  # whatever it is, it must not cost the others' figures
        text = error.message if isinstance(error, InputError) else str(error)
        return replace(found, failure=text.removeprefix(f"{title}: ") or type(error).__name__)
    return replace(found, training=training)


@functools.cache
def rehearsed_peak(config: TrainingConfig) -> int:
    """Bytes that a recipe needs on any device, in tensors alone. At 1024² it takes a minute or so to find out."""
    return rehearse(config).peak


def _table(measurements: Sequence[Measurement]) -> str:
    """How contestants train, beside the reference of their preset."""
    rows = [["", "", "batch", "s/kimg", "peak GiB", "rehearsed", "speed ×", "memory ×", ""]]
    references = {m.preset: m.training for m in measurements if m.name == REFERENCE}
    for m in measurements:
        reference, ratios = references.get(m.preset), ["", ""]
        if m.training is not None and reference is not None:
            speed = reference.seconds / m.training.seconds
            ratios = [f"{speed:.2f}", f"{m.training.peak_bytes / reference.peak_bytes:.2f}"]
        rehearsed = _gib(m.rehearsed_bytes)
        pixels = m.config.batch * m.config.generator.resolution**2
        note = _note(m) or ("all in one chunk" if pixels <= m.config.chunk_pixels else "")
        rows.append([m.preset, m.name, str(m.config.batch), *_cells(m.training), rehearsed, *ratios, note])
    return align(rows, left=(0, 1, 8))


def _ablation_table(measurements: Sequence[Measurement]) -> str:
    """What networks are made of, and what they cost."""
    head = ["parameters", "MFLOP/pixel", "s/picture", "peak GiB", "batch", "s/kimg", "peak GiB", ""]
    rows = [["", "", *head]]
    for m in measurements:
        shape = m.config.generator
        made_of = [f"{count_parameters(shape):,}", f"{2 * shape.pixel_macs / 1e6:.3f}"]
        costs = [*_cells(m.drawing), str(m.config.batch), *_cells(m.training)]
        rows.append([m.preset, m.name, *made_of, *costs, _note(m)])
    return f"the networks of Table 4 in arXiv:2303.14157: drawing, and training\n{align(rows, left=(0, 1, 9))}"


def _line(measurement: Measurement) -> str:
    """What is known of a contestant, for the progress."""
    seconds, peak = _cells(measurement.training)
    figures = f"{seconds} s/kimg, {peak} GiB" if measurement.training else _note(measurement)
    return f"{measurement.preset}, {measurement.name}: {figures}"


def _cells(cost: Cost | None) -> tuple[str, str]:
    if cost is None:
        return "", ""
    return f"{cost.seconds:,.0f}" if cost.seconds >= 100 else f"{cost.seconds:.3g}", _gib(cost.peak_bytes)


def _gib(count: int | None) -> str:
    return "" if count is None else f"{count / 2**30:.2f}"


def _note(measurement: Measurement) -> str:
    return measurement.failure.partition("\n")[0][:NOTE_LENGTH]


def count_parameters(config: GeneratorConfig) -> int:
    """Numbers that a generator learns."""
    with torch.device("meta"):
        generator = Generator(config)
    return sum(parameter.numel() for parameter in generator.parameters())


def _to_dict(measurement: Measurement) -> dict[str, Any]:
    """The figures as JSON-ready values."""
    shape = measurement.config.generator
    network = {"parameters": count_parameters(shape), "pixel_flops": 2 * shape.pixel_macs}
    return {**asdict(measurement), "config": measurement.config.to_dict(), **network}


if __name__ == "__main__":
    sys.exit(run("python -m model.training.benchmark", main, sys.argv[1:]))
