"""``creps benchmark patches``: what a network learns from patches that it does not from whole images.

A toy set has detail at every scale. A tiny network is trained on its whole images, and then on as many images again:
patches, or whole images as the control. The commands are those of users, and ``creps evaluate`` measures the result.
"""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError
from model.util.arguments import ArgumentParser
from model.util.files import write_json
from service.benchmark.report import Report, Row

RESOLUTION, MAX_SCALE = 16, 8

SIDE = RESOLUTION * MAX_SCALE
"""Of the toy set's images in pixels."""

IMAGES = 500

BANDS = 4
"""Of a disc, each half as wide as the next one inwards."""

COLOURS = np.array([[[0.55, 0.35, 0.1], [0.0, 0.0, 0.0]], [[1.0, 0.75, 0.5], [0.45, 0.3, 0.5]]])
"""Least and greatest values of the bands' two colours in turn, [2, 2, 3]."""

EDGES, SPECTRA = "edges_8", "spectra_4"
"""The metrics of ``creps evaluate`` that have a target, beside ``scale``."""

NETWORK = [
    *("--preset", "tiny-32", "--resolution", str(RESOLUTION), "--last-block", "32", "--bandwidth", "2"),
    *("--batch", "16", "--augmentation", "none", "--metrics", "none", "--snapshot-kimg", "1000", "--device", "cpu"),
]


@dataclass(frozen=True)
class Run:
    """A trained network and what its training took.

    Attributes:
        seconds, cpu_seconds: of the command, on the clock and of the processor.
        values: metrics by name.
    """

    folder: Path
    seconds: float
    cpu_seconds: float
    values: dict[str, float]


def main(arguments: Sequence[str]) -> None:
    """Train, measure and print a table, and which targets are met."""
    parser = ArgumentParser(
        prog="creps benchmark patches",
        description="Trains a tiny network on whole images, then on patches and, as the control, on more whole images.",
    )
    add = parser.add_argument
    add("--outdir", type=Path, required=True, metavar="DIR", help="a new folder for data, runs, figures and results")
    add("--whole-kimg", type=float, default=20.0, metavar="N", help="thousands of whole images at first (default: 20)")
    add("--kimg", type=float, default=20.0, metavar="N", help="of patches, and of the control (default: 20)")
    add("--count", type=int, default=256, metavar="N", help="patches that are measured at each scale (default: 256)")
    options = parser.parse_args(arguments)
    if options.outdir.exists():
        raise InputError("outdir", f"{options.outdir} exists")
    write_toy_set(options.outdir / "images", IMAGES)
    data = options.outdir / "data.zip"
    _creps("dataset", str(options.outdir / "images"), str(data), "--resolution", str(RESOLUTION), "--keep-size")

    def train(name: str, kimg: float, *others: str) -> Run:
        return _train(options.outdir / name, data, options.count, "--total-kimg", str(kimg), *others)

    whole = train("whole", options.whole_kimg)
    transfer = ("--transfer", str(next(whole.folder.glob("state-*.pt"))))
    control = train("control", options.kimg, *transfer)
    patches = train("patches", options.kimg, *transfer, "--patches", "--max-scale", str(MAX_SCALE))
    runs = {"whole": whole, "control": control, "patches": patches}
    figures = ("--figure", str(options.outdir / "details.png"), "--spectra-figure", str(options.outdir / "spectra.png"))
    beside = ("--compare", str(_checkpoint(control.folder)), "--data", str(data), "--count", str(options.count))
    _creps("evaluate", str(_checkpoint(patches.folder)), *figures, *beside, "--device", "cpu")
    print(_report(runs))
    for line in judge(patches.values, control.values):
        print(line)
    write_json(options.outdir / "report.json", {name: run.values for name, run in runs.items()})


def write_toy_set(folder: Path, count: int) -> None:
    """Writes discs whose bands halve in width towards the rim, so that every scale has edges of its own."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(draw_disc(np.random.default_rng(number))).save(folder / f"{number:05d}.png")


def draw_disc(random: np.random.Generator) -> NDArray[np.uint8]:
    """A disc of random place, size and colours before white, [SIDE, SIDE, 3]. Its edges are one pixel wide."""
    centre, radius = random.uniform(0.44, 0.56, 2) * SIDE, random.uniform(0.32, 0.42) * SIDE
    colours = random.uniform(*COLOURS)  # [2, 3]
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    distance = np.hypot(x - centre[0], y - centre[1])
    image = np.ones((SIDE, SIDE, 3))
    for band in reversed(range(BANDS)):  # from the rim inwards
        outer = radius * (1 - 0.5 ** (band + 1)) / (1 - 0.5**BANDS)
        cover = (outer - distance + 0.5).clip(0, 1)[..., None]
        image = image * (1 - cover) + colours[band % 2] * cover
    return (image * 255).round().astype(np.uint8)


def judge(patches: Mapping[str, float], control: Mapping[str, float]) -> list[str]:
    """A line for each target, which begins with "met" or "missed"."""
    edges, wanted = (values.get(EDGES, math.inf) for values in (patches, control))  # there may be none
    targets = {
        f"edges of {edges:.2f} px at {MAX_SCALE}×, at most half of {wanted:.2f}": edges < math.inf
        and edges <= wanted / 2,
        f"spectra at 4× within 3 dB: {patches[SPECTRA]:.2f}": patches[SPECTRA] <= 3,
        f"scale consistency of {patches['scale']:.1f} dB, at most 1 dB below {control['scale']:.1f}": (
            patches["scale"] >= control["scale"] - 1
        ),
    }
    return [f"{'met' if met else 'missed'}: {target}" for target, met in targets.items()]


def _train(folder: Path, data: Path, count: int, *arguments: str) -> Run:
    start, before = time.monotonic(), _cpu_seconds()
    _creps("train", "--data", str(data), "--outdir", str(folder), *NETWORK, *arguments)
    seconds, cpu_seconds = time.monotonic() - start, _cpu_seconds() - before
    report = folder / "evaluation.json"
    options = ("--metrics", "scale,edges,spectra", "--count", str(count), "--device", "cpu")
    _creps("evaluate", str(_checkpoint(folder)), "--data", str(data), *options, "--json", str(report))
    return Run(folder, seconds, cpu_seconds, json.loads(report.read_bytes())["values"])


def _creps(*arguments: str) -> None:
    print("creps", *arguments, file=sys.stderr, flush=True)
    if subprocess.run([sys.executable, "-m", "service", *arguments], stdout=sys.stderr).returncode:  # noqa: S603
        raise InputError("benchmark", f"creps {arguments[0]} failed")


def _cpu_seconds() -> float:
    """Processor time of the commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _checkpoint(folder: Path) -> Path:
    """A run's last checkpoint."""
    return max(folder.glob("checkpoint-*.safetensors"))


def _report(runs: Mapping[str, Run]) -> Report:
    data = runs["whole"].values
    rows: list[Row] = [
        {"network": "data", **{f"edges {s}×": data.get(f"edges_{s}_data", "none") for s in (1, 2, 4, 8)}}
    ]
    for name, run in runs.items():
        rows.append(
            {
                "network": name,
                **{f"edges {s}×": run.values.get(f"edges_{s}", "none") for s in (1, 2, 4, 8)},
                **{f"spectra {s}×": run.values[f"spectra_{s}"] for s in (1, 2, 4, 8)},
                "scale": run.values["scale"],
                "minutes": run.seconds / 60,
                "CPU min": run.cpu_seconds / 60,
            }
        )
    title = f"{IMAGES} images of {SIDE}², network of {RESOLUTION}²: edges in pixels, spectra and scale in dB"
    return Report(title, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
