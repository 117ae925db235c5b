"""``creps render``: one picture, without a server."""

import math
import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from model.arguments import ArgumentParser
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.files import write_atomically
from model.spec import DEFAULT_QUALITY, FORMATS, Encoding, Format, Latent, RenderSpec
from model.viewport import MAX_SIDE, Grid, Viewport
from service.catalog import DEMO_NAME, open_checkpoint
from service.encode import SUFFIXES, encode

MAX_PIXELS = 2**28
"""Largest picture or crop: it is held in memory, 3 bytes a pixel, and again as a file."""

_OPTIONS = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class"}
"""Fields of a latent that have another name on the command line."""

_PROGRESS_DELAY = 2.0
"""Seconds before a progress bar appears."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, renders, and writes the file.

    Raises:
        InputError: names the option that cannot be used; nothing has been rendered or written then.
    """
    options = _parser().parse_args(_attach_negative_values(arguments))
    checkpoint = open_checkpoint(options.checkpoint)
    seed = _integer("seed", options.seed)
    image_format = _find_format(options.format, options.output)
    output = options.output or Path(f"seed{seed}.{image_format}")
    spec = _make_spec(options, checkpoint, seed, image_format)
    _check_output(output)

    from kernels.renderer import Renderer  # here, so that --help and mistakes need no torch
    from model.device import find_device

    if find_device(options.device).type == "cuda":
        print("preparing the GPU, which takes a while the first time …", file=sys.stderr)
    renderer = Renderer(checkpoint, options.device)
    with tqdm(
        desc="rendering",
        total=renderer.cost(spec),
        delay=_PROGRESS_DELAY,
        bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} < {remaining}",
    ) as bar:
        picture = renderer.render(spec, bar.update)
        bar.set_description("encoding", refresh=bar.format_dict["elapsed"] > _PROGRESS_DELAY)
        content = encode(picture, spec.encoding)
    try:
        write_atomically(output, content)
    except OSError as error:
        raise InputError("output", f"{output} cannot be written: {error.strerror}") from None
    print(f"{output}: {picture.shape[1]}×{picture.shape[0]} pixels, {len(content):,} bytes")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="creps render", description="Renders one picture of any size, or a crop of it.")
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help=f'a checkpoint file, or "{DEMO_NAME}" for the bundled one')
    add("--seed", default="0", help="picks the picture (default: 0)")
    add("--class", dest="class_index", metavar="INDEX", help="class of a conditional network")
    add("--psi", default="1", help="truncation: 1 as drawn (default), towards 0 the mean picture")
    add("--cutoff", help="truncate only the first CUTOFF styles (default: all)")
    add("--size", metavar="WxH", help="size of the whole picture in pixels (default: the training resolution)")
    add("--region", metavar="X0,Y0,X1,Y1", help="part of the unit square that the whole picture shows; may reach out")
    add("--crop", metavar="X,Y,W,H", help="render only these pixels of the whole picture")
    add("--grid", default="centers", choices=get_args(Grid), help="where pixels lie (default: centers)")
    add("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    add("--output", type=Path, metavar="FILE", help="default: seedSEED.png in the current folder")
    add("--format", choices=FORMATS, help="default: as the output's ending tells, else png")
    add("--quality", default=str(DEFAULT_QUALITY), help=f"1 to 100, of jpeg and webp (default: {DEFAULT_QUALITY})")
    return parser


def _attach_negative_values(arguments: Sequence[str]) -> list[str]:
    """``--region -1,0,1,1`` as ``--region=-1,0,1,1``: argparse takes a list that begins with a minus for an option."""
    attached: list[str] = []
    for argument in arguments:
        if attached and re.match(r"-[\d.]", argument) and re.fullmatch(r"--[a-z]+", attached[-1]):
            attached[-1] += f"={argument}"
        else:
            attached.append(argument)
    return attached


def _make_spec(options: Namespace, checkpoint: Checkpoint, seed: int, image_format: Format) -> RenderSpec:
    """Checks everything that can be checked before any work. Raises InputError."""
    latent = Latent(
        seed=seed,
        class_index=None if options.class_index is None else _integer("class", options.class_index),
        psi=_number("psi", options.psi),
        cutoff=None if options.cutoff is None else _integer("cutoff", options.cutoff),
    )
    try:
        latent.check(checkpoint.config)
    except InputError as error:
        raise InputError(_OPTIONS.get(error.field, error.field), error.message) from None
    resolution = checkpoint.config.resolution
    width, height = (resolution, resolution) if options.size is None else _size(options.size)
    region = crop = None
    if options.region is not None:
        x0, y0, x1, y1 = (_number("region", text) for text in _four("region", "x0,y0,x1,y1", options.region))
        region = (x0, y0, x1, y1)
    if options.crop is not None:
        x, y, w, h = (_integer("crop", text) for text in _four("crop", "x,y,w,h", options.crop))
        crop = (x, y, w, h)
    viewport = Viewport.resolve(width, height, region, crop, options.grid)
    if viewport.pixels > MAX_PIXELS:
        raise InputError("size" if crop is None else "crop", f"must be at most {MAX_PIXELS:,} pixels in all")
    encoding = Encoding(image_format, _integer("quality", options.quality))
    encoding.check_size(*viewport.crop[2:])
    return RenderSpec(checkpoint.name, latent, viewport, encoding)


def _find_format(given: Format | None, output: Path | None) -> Format:
    if given is not None or output is None:
        return given or "png"
    if (suffix := output.suffix.lower()) not in SUFFIXES:
        raise InputError("output", f"must end in one of {', '.join(SUFFIXES)}, or --format be given, not {output}")
    return SUFFIXES[suffix]


def _check_output(output: Path) -> None:
    if output.is_dir():
        raise InputError("output", f"{output} is a folder")
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError("output", f"{output} cannot be written: {existing} is no folder that may be written to")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9})[x×]([0-9]{1,9})", text)
    if match is None:
        raise InputError("size", f"must be WIDTHxHEIGHT in pixels, each from 1 to {MAX_SIDE}, not {_shown(text)}")
    return int(match[1]), int(match[2])


def _four(field: str, form: str, text: str) -> list[str]:
    parts = text.split(",")
    if len(parts) != 4:
        raise InputError(field, f"must be four numbers {form}, not {_shown(text)}")
    return parts


def _integer(field: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise InputError(field, f"must be an integer, not {_shown(text)}")
    return int(text)


def _number(field: str, text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) or math.isinf(float(text)):
        raise InputError(field, f"must be a finite number, not {_shown(text)}")
    return float(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
