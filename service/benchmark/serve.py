"""``creps benchmark serve``: images, latents, jobs and IIIF tiles, compared with the renderer alone and LitServe."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from model.config import PRESETS
from model.errors import InputError
from model.util.arguments import ArgumentParser, some_of
from model.util.files import write_atomically
from service.benchmark import ceiling, comparison, iiif, images, jobs, latents, launches
from service.benchmark.report import Report
from service.models.catalog import DEMO

PARTS = ("pictures", "latents", "jobs", "iiif", "comparison", "ceiling", "launches")

SIDES = (512, 65_536)


def main(arguments: Sequence[str]) -> None:
    """Run the chosen benchmarks and print a table for each. Raises InputError for an invalid option."""
    parser = ArgumentParser(prog="creps benchmark serve", description="Throughput and latency of the whole service.")
    add = parser.add_argument
    add(
        "--parts",
        type=some_of(PARTS),
        default="pictures,latents,jobs,iiif",
        metavar="A,B",
        help=f"some of {', '.join(PARTS)}; comparison and ceiling are with LitServe; ceiling and launches simulate "
        "the renderer (default: the others)",
    )
    add("--pictures", type=int, default=200, metavar="N", help="images of each measurement (default: 200)")
    add("--side", type=int, default=4096, metavar="PIXELS", help="side of the job's image (default: 4096)")
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--checkpoint", type=Path, default=DEMO, metavar="FILE", help="network of the job (default: the demo)"
    )
    model.add_argument("--preset", choices=PRESETS, help="network with random weights instead")
    add("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args(arguments)
    if options.pictures < images.CLIENTS:
        raise InputError("pictures", f"must be at least {images.CLIENTS}, not {options.pictures}")
    if not SIDES[0] <= options.side <= SIDES[1]:
        raise InputError("side", f"must be from {SIDES[0]} to {SIDES[1]}, not {options.side}")
    measurements: dict[str, Callable[[], Report]] = {
        "pictures": lambda: images.measure(options.pictures),
        "latents": latents.measure,
        "jobs": lambda: (
            jobs.measure_preset(options.preset, options.side)
            if options.preset
            else jobs.measure(options.checkpoint, options.side)
        ),
        "iiif": iiif.measure,
        "comparison": lambda: comparison.measure(options.pictures),
        "ceiling": ceiling.measure,
        "launches": launches.measure,
    }
    reports = {}
    print(f"{os.cpu_count()} cores")
    for part in options.parts:
        reports[part] = measurements[part]()
        print(f"\n{reports[part]}", flush=True)
    if options.json is not None:
        results = {part: asdict(report) for part, report in reports.items()}
        write_atomically(options.json, (json.dumps(results, indent=2) + "\n").encode())
