"""``creps benchmark render``: speed of the backends on a CPU or a GPU, compared with a naive baseline."""

import json
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

import torch

from kernels.benchmark.report import Report
from kernels.native.targets import TARGETS
from model.config import PRESETS
from model.errors import InputError
from model.geometry.transforms import Transform, parse_transforms
from model.util.arguments import ArgumentParser, some_of
from model.util.files import write_json
from model.viewport import Viewport

CPU_BACKENDS = (*TARGETS, "cpu", "reference")

CPU_SIZE = (512, 512)


def main(arguments: Sequence[str]) -> None:
    """Parse the command line, measure and print a table. Raises InputError if an option cannot be used."""
    options = _parser().parse_args(arguments)
    cuda = torch.cuda.is_available() if options.device is None else options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise InputError("--device", "cuda is not available: torch finds no GPU")
    if cuda and options.backends is not None:
        raise InputError("--backends", "requires --device cpu; on a GPU all variants are measured")
    if cuda and options.transform:
        raise InputError("--transform", "requires --device cpu")
    for option in ("chart", "kernels_only"):
        if not cuda and getattr(options, option):
            raise InputError(f"--{option.replace('_', '-')}", "requires --device cuda")

    def save(report: Report) -> None:
        if options.json is not None:
            write_json(options.json, report.to_dict())

    if cuda:
        from kernels.benchmark.cuda import run_cuda
        from kernels.benchmark.thresholds import check_thresholds

        report = run_cuda(
            options.checkpoint, options.preset, options.size, kernels_only=options.kernels_only, save=save
        )
        print(report, "", *check_thresholds(report), sep="\n")
    else:
        from kernels.benchmark.cpu import run_cpu

        viewport = Viewport.resolve(*(options.size or CPU_SIZE))
        report = run_cpu(options.checkpoint, options.preset, viewport, options.backends, options.transform)
        save(report)
        print(report)
    if options.chart is not None:
        from kernels.benchmark.chart import draw_chart

        draw_chart(report, options.chart)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps benchmark render", description="Speed of the backends, compared with a naive baseline."
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--preset", default="creps-512", choices=PRESETS, help="random weights (default: creps-512)")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="this network instead")
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), help="default: cuda if there is a GPU")
    add("--size", type=_size, metavar="WxH", help="default: 512x512; on a GPU squares from 256 to 32768")
    add("--backends", type=some_of(CPU_BACKENDS), help="on a CPU; default: kernels that it can use, cpu, reference")
    text = 'on a CPU: transformed images beside plain ones, such as [{"rotate": 30}]; without the reference'
    add("--transform", type=_transforms, default=(), metavar="JSON", help=text)
    add("--kernels-only", action="store_true", help="on a GPU: leave out the naive baselines, which take minutes")
    add("--json", type=Path, metavar="FILE", help="also write the results to this file, on a GPU as they are measured")
    add("--chart", type=Path, metavar="FILE.png", help="on a GPU: chart of the results and the limits of the GPU")
    return parser


def _transforms(text: str) -> tuple[Transform, ...]:
    try:
        return parse_transforms(json.loads(text))
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,6})(?:[xX×]([0-9]{1,6}))?", text)
    if match is None:
        raise ArgumentTypeError(f"must be WIDTHxHEIGHT, not {text[:40]!r}")
    return int(match[1]), int(match[2] or match[1])
