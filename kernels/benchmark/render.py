"""``creps benchmark render``: how fast pictures are drawn on a CPU or a GPU, beside the plain network."""

import json
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path

import torch

from model.arguments import ArgumentParser
from model.config import PRESETS
from model.errors import InputError
from model.files import write_atomically
from model.viewport import Viewport

CPU_BACKENDS = ("cpu", "reference")

CPU_SIZE = (512, 512)


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, measures, prints a table.

    Raises:
        InputError: an option cannot be used.
    """
    options = _parser().parse_args(arguments)
    cuda = torch.cuda.is_available() if options.device is None else options.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise InputError("--device", "cuda is not there: torch sees no GPU")
    if cuda and options.backends is not None:
        raise InputError("--backends", "is for --device cpu; on a GPU all are measured")
    if not cuda and options.chart is not None:
        raise InputError("--chart", "is for --device cuda")
    if cuda:
        from kernels.benchmark.cuda import run_cuda

        text, report = run_cuda(options.checkpoint, options.preset, options.size)
    else:
        from kernels.benchmark.cpu import run_cpu

        viewport = Viewport.resolve(*(options.size or CPU_SIZE))
        text, report = run_cpu(options.checkpoint, options.preset, viewport, options.backends or CPU_BACKENDS)
    print(text)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(report, indent=2) + "\n").encode())
    if options.chart is not None:
        from kernels.benchmark.chart import draw_chart

        draw_chart(report, options.chart)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps benchmark render",
        description="How fast pictures are drawn on a CPU or a GPU, beside the plain network.",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--preset", default="creps-512", choices=PRESETS, help="random weights (default: creps-512)")
    model.add_argument("--checkpoint", type=Path, metavar="FILE", help="this network instead")
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    add("--size", type=_size, metavar="WxH", help="default: 512x512; on a GPU squares from 256 to 32768")
    add("--backends", type=_backends, help=f"on a CPU; default: {','.join(CPU_BACKENDS)}")
    add("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    add("--chart", type=Path, metavar="FILE.png", help="on a GPU: draw them against the roofline")
    return parser


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text)
    if match is None:
        raise ArgumentTypeError(f"must be WIDTHxHEIGHT, not {text[:40]!r}")
    return int(match[1]), int(match[2])


def _backends(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := sorted(set(names) - set(CPU_BACKENDS)):
        raise ArgumentTypeError(f"must be of {','.join(CPU_BACKENDS)}, not {unknown[0][:40]!r}")
    return names
