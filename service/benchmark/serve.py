"""``creps benchmark serve``: pictures, jobs and IIIF tiles beside renderer and encoder alone, and beside LitServe."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from model.arguments import ArgumentParser
from model.config import PRESETS
from model.errors import InputError
from model.files import write_atomically
from service.benchmark import comparison, iiif, jobs, pictures
from service.catalog import DEMO

PARTS = ("pictures", "jobs", "iiif", "comparison")

Report = pictures.PicturesReport | jobs.JobsReport | iiif.IiifReport | comparison.ComparisonReport

SIDES = (512, 65_536)


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, measures, prints a table for each part.

    Raises:
        InputError: an option cannot be used, or the service did not start.
    """
    parser = ArgumentParser(prog="creps benchmark serve", description="Throughput and latency of the whole service.")
    add = parser.add_argument
    add(
        "--parts",
        default="pictures,jobs,iiif",
        metavar="A,B",
        help=f"of {', '.join(PARTS)} with LitServe (default: all but that)",
    )
    add("--pictures", type=int, default=200, metavar="N", help="pictures of each measurement (default: 200)")
    add("--side", type=int, default=4096, metavar="PIXELS", help="of the job's square picture (default: 4096)")
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--checkpoint", type=Path, default=DEMO, metavar="FILE", help="draws the job (default: the demo)"
    )
    model.add_argument("--preset", choices=PRESETS, help="random weights draw it")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        raise InputError("parts", f"must be of {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if options.pictures < pictures.CLIENTS:
        raise InputError("pictures", f"must be at least {pictures.CLIENTS}, not {options.pictures}")
    if not SIDES[0] <= options.side <= SIDES[1]:
        raise InputError("side", f"must be from {SIDES[0]} to {SIDES[1]}, not {options.side}")
    measurements: dict[str, Callable[[], Report]] = {
        "pictures": lambda: pictures.measure(options.pictures),
        "jobs": lambda: (
            jobs.measure_preset(options.preset, options.side)
            if options.preset
            else jobs.measure(options.checkpoint, options.side)
        ),
        "iiif": iiif.measure,
        "comparison": lambda: comparison.measure(options.pictures),
    }
    reports = {}
    print(f"{os.cpu_count()} cores")
    for part in parts:
        reports[part] = measurements[part]()
        print(f"\n{reports[part]}", flush=True)
    if options.json is not None:
        figures = {part: asdict(report) for part, report in reports.items()}
        write_atomically(options.json, (json.dumps(figures, indent=2) + "\n").encode())
