"""The command line of ``creps render``: everything that can be checked before any work."""

import math
import os
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from model.arguments import ArgumentParser
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.spec import DEFAULT_QUALITY, FORMATS, Encoding, Format, Latent, RenderSpec
from model.viewport import MAX_SIDE, Grid, Viewport
from service.catalog import DEMO_NAME, open_checkpoint
from service.encode import SUFFIXES
from service.outputs.order import DEFAULT_TILE, Order
from service.outputs.placing import tiles_folder

MAX_PIXELS = 2**28
"""Largest JPEG or WebP: its pixels are held in memory, 3 bytes each, and again as a file."""

Tiled = Literal["dzi", "tiff"]
TILED: tuple[Tiled, ...] = get_args(Tiled)

Output = Format | Tiled

_ENDINGS: dict[str, Output] = {**SUFFIXES, ".tif": "tiff", ".tiff": "tiff", ".dzi": "dzi"}

_OPTIONS = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class"}
"""Fields of a latent that have another name on the command line."""


@dataclass(frozen=True)
class Options:
    """What is to be made.

    Attributes:
        order: the picture as files of tiles, where it is to be one of TILED; None where it is one plain file.
    """

    checkpoint: Checkpoint
    device: str
    output: Path
    spec: RenderSpec
    order: Order | None


def parse(arguments: Sequence[str]) -> Options:
    """Reads the command line. Nothing has been written then.

    Raises:
        InputError: names the option that cannot be used.
    """
    options = _parser().parse_args(_attach_negative_values(arguments))
    checkpoint = open_checkpoint(options.checkpoint)
    seed = _integer("seed", options.seed)
    file_format = _find_format(options.format, options.output)
    output = options.output or Path(f"seed{seed}.{file_format}")
    latent = _make_latent(options, checkpoint, seed)
    viewport = _make_viewport(options, checkpoint.config.resolution)
    quality = _integer("quality", options.quality)
    if file_format == "dzi" or file_format == "tiff":
        spec = RenderSpec(checkpoint.name, latent, viewport, Encoding(options.tile_format or "png", quality))
        order = _make_order(spec, file_format, options.tile)
        _check_output(output, deep_zoom=file_format == "dzi")
        return Options(checkpoint, options.device, output, spec, order)
    for field, given in (("tile", options.tile), ("tile-format", options.tile_format)):
        if given is not None:
            raise InputError(field, f"is for {' and '.join(TILED)}, not for {file_format}")
    spec = RenderSpec(checkpoint.name, latent, viewport, Encoding(file_format, quality))
    spec.encoding.check_size(*viewport.crop[2:])
    if file_format != "png" and viewport.pixels > MAX_PIXELS:
        limit = f"of a {file_format} picture must be at most {MAX_PIXELS:,} pixels in all; png, tiff and dzi hold more"
        raise InputError("size" if options.crop is None else "crop", limit)
    _check_output(output)
    return Options(checkpoint, options.device, output, spec, None)


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
    add(
        "--format",
        choices=(*FORMATS, *TILED),
        help="default: as the output's ending tells, else png. tiff: one tiled BigTIFF with all smaller sizes in it; "
        "dzi: Deep Zoom, NAME.dzi and a folder NAME_files of tiles; these and png may be larger than memory",
    )
    add("--quality", default=str(DEFAULT_QUALITY), help=f"1 to 100, of jpeg and webp (default: {DEFAULT_QUALITY})")
    add("--tile", metavar="SIDE", help=f"of dzi and tiff: side of the tiles in pixels (default: {DEFAULT_TILE})")
    add("--tile-format", choices=FORMATS, help="of dzi and tiff: png is lossless (default); webp for dzi alone")
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


def _make_latent(options: Namespace, checkpoint: Checkpoint, seed: int) -> Latent:
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
    return latent


def _make_viewport(options: Namespace, resolution: int) -> Viewport:
    width, height = (resolution, resolution) if options.size is None else _size(options.size)
    region = crop = None
    if options.region is not None:
        x0, y0, x1, y1 = (_number("region", text) for text in _four("region", "x0,y0,x1,y1", options.region))
        region = (x0, y0, x1, y1)
    if options.crop is not None:
        x, y, w, h = (_integer("crop", text) for text in _four("crop", "x,y,w,h", options.crop))
        crop = (x, y, w, h)
    return Viewport.resolve(width, height, region, crop, options.grid)


def _make_order(spec: RenderSpec, kind: Tiled, tile: str | None) -> Order:
    try:
        return Order(spec, kind, DEFAULT_TILE if tile is None else _integer("tile", tile))
    except InputError as error:
        raise InputError("tile-format" if error.field == "format" else error.field, error.message) from None


def _find_format(given: Output | None, output: Path | None) -> Output:
    if given is not None or output is None:
        return given or "png"
    if (suffix := output.suffix.lower()) not in _ENDINGS:
        raise InputError("output", f"must end in one of {', '.join(_ENDINGS)}, or --format be given, not {output}")
    return _ENDINGS[suffix]


def _check_output(output: Path, *, deep_zoom: bool = False) -> None:
    if output.is_dir():
        raise InputError("output", f"{output} is a folder")
    existing = next(folder for folder in output.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError("output", f"{output} cannot be written: {existing} is no folder that may be written to")
    if not deep_zoom:
        return
    if output.suffix.lower() != ".dzi":
        raise InputError("output", f"of Deep Zoom must end in .dzi, so that viewers find its tiles, not {output}")
    tiles = tiles_folder(output)
    if tiles.exists() and not (tiles.is_dir() and output.exists()):
        raise InputError("output", f"{tiles}, where its tiles would be, is there already and not of an {output.name}")


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
