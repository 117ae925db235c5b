"""How fast recipes train, and in how much memory: ``creps benchmark train``.

As ``python -m model.training.benchmark`` it needs nothing but torch, numpy and pillow. Pictures are random, since what
they show does not change the work.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from model.arguments import ArgumentParser, run
from model.device import find_device, installed_memory
from model.drawing import draw
from model.errors import InputError
from model.files import write_atomically
from model.generator import Generator
from model.measuring import in_own_process, peak_memory
from model.tables import align
from model.training.config import TrainingConfig
from model.training.grids import one_hot
from model.training.presets import PRESETS, resolve
from model.training.processes import Processes
from model.training.rehearsal import rehearse
from model.training.state import TrainingState
from model.training.step import TrainingStep
from model.viewport import Viewport

SOURCE_PRESETS = "ffhq-128,ffhq-512,ffhq-1024"

CONTESTANTS: dict[str, dict[str, int | bool]] = {
    "in chunks": {},
    "in chunks, compiled": {"compile": True},
    "all kept": {"chunk_pixels": 0},
}
"""Ways to train a preset, by what they change in it; the last one is the reference."""

ABLATIONS: dict[str, dict[str, int | bool | str]] = {
    "as the preset": {},
    "thickness 4": {"thickness": 4},
    "no decoders": {"decoders": False},
    "last product alone": {"fusion": "last"},
}
"""The networks of the source's Table 4, by what they change in the generator."""


@dataclass(frozen=True)
class Measurement:
    """What one process measured.

    Attributes:
        seconds: for a thousand pictures of training, or for one picture that is drawn; none where it could not be done.
        peak_bytes: the most memory that the process held.
        failure: why there are no figures.
    """

    preset: str
    what: str
    pictures: int
    seconds: float | None = None
    peak_bytes: int | None = None
    failure: str = ""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, measures, prints a table. Raises InputError for an option that cannot be used."""
    options = _parser().parse_args(arguments)
    device = find_device(options.device)
    names = options.presets.split(",")
    if unknown := [name for name in names if name not in PRESETS]:
        raise InputError("presets", f"must be of {', '.join(PRESETS)}, not {unknown[0]!r}")
    if options.batch is not None and options.batch < 1:
        raise InputError("batch", f"must be at least 1, not {options.batch}")
    batch = options.batch or (1 if device.type == "cpu" else None)
    measure = _measure_ablations if options.ablations else _measure_contestants
    measurements = [found for name in names for found in measure(name, batch, device, options.steps)]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    date = datetime.now(UTC).date().isoformat()
    print(f"{date}, {where}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(_table(measurements, drawn=options.ablations))
    if options.json is not None:
        figures = [asdict(measurement) for measurement in measurements]
        report = {"date": date, "device": where, "torch": torch.__version__, "measurements": figures}
        write_atomically(options.json, (json.dumps(report, indent=2) + "\n").encode())


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="creps benchmark train",
        description="Seconds for a thousand pictures of training, and peak memory, beside keeping all activations.",
    )
    parser.add_argument("--presets", default=SOURCE_PRESETS, metavar="A,B", help=f"default: {SOURCE_PRESETS}")
    parser.add_argument("--batch", type=int, metavar="N", help="pictures of a step (default: the preset's; 1 on a CPU)")
    parser.add_argument("--steps", type=int, default=3, choices=range(1, 101), metavar="N", help="timed (default: 3)")
    parser.add_argument("--ablations", action="store_true", help="the networks of the source's Table 4 instead")
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, cpu or auto (default)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    return parser


def _measure_contestants(preset: str, batch: int | None, device: torch.device, steps: int) -> list[Measurement]:
    ways = {name: way for name, way in CONTESTANTS.items() if device.type == "cuda" or not way.get("compile")}
    recipes = {name: _recipe(preset, batch, way, {}) for name, way in ways.items()}
    return [_measure(preset, name, config, device, measure_training, steps) for name, config in recipes.items()]


def _measure_ablations(preset: str, batch: int | None, device: torch.device, steps: int) -> list[Measurement]:
    found = []
    for name, network in ABLATIONS.items():
        config = _recipe(preset, batch, {}, network)
        found.append(_measure(preset, f"{name}: train", config, device, measure_training, steps))
        found.append(_measure(preset, f"{name}: draw", config, device, measure_drawing, steps))
    return found


def _recipe(preset: str, batch: int | None, recipe: Mapping[str, Any], network: Mapping[str, Any]) -> TrainingConfig:
    pictures = batch or PRESETS[preset].config.batch
    group = min(pictures, PRESETS[preset].config.minibatch_group)
    return resolve(preset, {**recipe, "batch": pictures, "minibatch_group": group}, dict(network))


def _measure(
    preset: str,
    what: str,
    config: TrainingConfig,
    device: torch.device,
    measure: Callable[[TrainingConfig, str, int], tuple[float, int]],
    steps: int,
) -> Measurement:
    """In a process of its own; not begun where a rehearsal says that the memory will not do."""
    empty = Measurement(preset, what, config.batch)
    if measure is measure_training:
        print(f"{preset}, {what}: rehearsing …", file=sys.stderr)
        needed = rehearse(config).peak
        if needed > installed_memory(device):
            return replace(empty, failure=f"needs {needed / 2**30:.0f} GiB")
    try:
        seconds, peak = in_own_process(f"{preset}, {what}", measure, config, str(device), steps)
    except (InputError, torch.cuda.OutOfMemoryError, MemoryError) as error:
        return replace(empty, failure=str(error).splitlines()[0])
    return replace(empty, seconds=seconds, peak_bytes=peak)


def measure_training(config: TrainingConfig, device_name: str, steps: int) -> tuple[float, int]:
    """Seconds for a thousand pictures of training, and the most bytes held.

    Steps of each kind are timed apart and weighted by how often they come: with no penalty, with the path length, with
    everything. The median of each kind counts, after one step to warm up.
    """
    device = torch.device(device_name)
    state = TrainingState(config, device)
    step = TrainingStep(state, Processes())
    side, classes = config.generator.resolution, config.generator.classes
    real = torch.rand(config.batch, 3, side, side, device=device) * 2 - 1
    label = one_hot(torch.zeros(config.batch, dtype=torch.int64, device=device), classes)

    def seconds(kind: int) -> float:
        durations = []
        for _ in range(steps):
            state.steps = kind
            durations.append(_timed(lambda: step(real, label), device))
        return median(durations)

    every, path, penalty = 0, config.path_length_interval, config.r1_interval
    _timed(lambda: step(real, label), device)
    everything = seconds(every)
    plain = everything if 1 in (path, penalty) else seconds(1)
    with_path = everything if path % penalty == 0 else seconds(path)
    average = plain + (with_path - plain) / path + (everything - with_path) / penalty
    return 1000 * average / config.batch, peak_memory(device)


def measure_drawing(config: TrainingConfig, device_name: str, steps: int) -> tuple[float, int]:
    """Seconds to draw one picture at the training resolution by the readable network, and the most bytes held."""
    device = torch.device(device_name)
    shape = config.generator
    generator = Generator(shape).to(device).eval()
    viewport = Viewport.resolve(shape.resolution, shape.resolution)
    ws = torch.randn(1, shape.num_ws, shape.w_dim, device=device)
    durations = [_timed(lambda: draw(generator, ws, viewport), device) for _ in range(steps + 1)]
    return median(durations[1:]), peak_memory(device)


def _timed(function: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _table(measurements: Sequence[Measurement], drawn: bool) -> str:
    rows = [["preset", "what", "batch", "s/kimg", *(["s/picture"] if drawn else []), "peak GiB"]]
    for m in measurements:
        draws = m.what.endswith(": draw")
        seconds = "" if m.seconds is None else f"{m.seconds:.3g}"
        figures = [seconds if not draws else "", *([seconds if draws else ""] if drawn else [])]
        peak = m.failure if m.peak_bytes is None else f"{m.peak_bytes / 2**30:.2f}"
        rows.append([m.preset, m.what, "" if draws else str(m.pictures), *figures, peak])
    return align(rows, left=(0, 1))


if __name__ == "__main__":
    sys.exit(run("python -m model.training.benchmark", main, sys.argv[1:]))
