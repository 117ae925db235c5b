"""Arguments, argparse types and checks that commands share."""

import json
import math
import os
import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from model.errors import InputError
from model.geometry.outside import OUTSIDES
from model.geometry.transforms import Transform, parse_transform, parse_transforms
from model.geometry.wrap import AXES, DEFAULT_BLEND, MODES, Wrap
from model.latents.latent import Edit
from model.latents.ranges import parse_seeds
from model.viewport import MAX_SIDE
from service.models.catalog import DEMO_NAME

_MAX_QUOTED = 40
"""Characters of an invalid value that an error quotes."""


def add_checkpoint(parser: ArgumentParser, **options: Any) -> None:
    """Add the positional argument CHECKPOINT, a value for service.models.catalog.open_checkpoint."""
    text = f'a checkpoint file, or "{DEMO_NAME}" for the bundled one'
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=text, **options)


def add_latent_options(parser: ArgumentParser) -> None:
    """Add --psi, --cutoff and --class."""
    add = parser.add_argument
    add("--class", dest="class_index", metavar="CLASS", help="class of a conditional network, by its name or number")
    add("--psi", type=number, default=1.0, help="truncation: 1 for none (default), towards 0 the mean image")
    add("--cutoff", type=integer, help="truncate only the first CUTOFF styles (default: all)")


def add_size(parser: ArgumentParser) -> None:
    """Add --size."""
    text = "size of the whole image in pixels, or SIDE of a square (default: the training resolution)"
    parser.add_argument("--size", type=image_size, metavar="WxH", help=text)


def add_device(parser: ArgumentParser) -> None:
    """Add --device."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")


def integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.0*)?", text.strip()):
        raise ArgumentTypeError(f"must be an integer, not {_quote(text)}")
    return int(text.partition(".")[0])


def number(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text.strip()) or math.isinf(float(text)):
        raise ArgumentTypeError(f"must be a finite number, not {_quote(text)}")
    return float(text)


def seeds(text: str) -> tuple[int, ...]:
    """``0-15,40``."""
    try:
        return parse_seeds("seeds", text)
    except InputError as error:
        raise ArgumentTypeError(error.message) from None


def grid(text: str) -> tuple[int, int]:
    """``COLUMNSxROWS``."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})[xX×]([1-9][0-9]{0,3})", text.strip())
    if match is None:
        raise ArgumentTypeError(f"must be COLUMNSxROWS, not {_quote(text)}")
    return int(match[1]), int(match[2])


def image_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` in pixels, or ``SIDE`` of a square."""
    match = re.fullmatch(r"([0-9]{1,9})(?: ?[xX×] ?([0-9]{1,9}))?", text.strip())
    if match is None:
        raise ArgumentTypeError(f"must be WIDTHxHEIGHT in pixels, each from 1 to {MAX_SIDE}, not {_quote(text)}")
    return int(match[1]), int(match[2] or match[1])


def region(text: str) -> tuple[float, ...]:
    """``x0,y0,x1,y1``."""
    return tuple(map(number, _split_four(text)))


def crop(text: str) -> tuple[int, ...]:
    """``x,y,w,h`` in pixels."""
    return tuple(map(integer, _split_four(text)))


def add_transforms(parser: ArgumentParser) -> None:
    """Add --rotate, --translate, --scale, --matrix, --transform, which may be repeated, --outside, --wrap …"""

    def add(option: str, metavar: str, text: str) -> None:
        parse = transforms if option == "transform" else partial(transform, option)
        parser.add_argument(
            f"--{option}", dest="transform", action="extend", default=[], type=parse, metavar=metavar, help=text
        )

    add("rotate", "DEGREES", "turn the picture clockwise; this and the next options apply in the order given")
    add("translate", "X,Y", "move it, in sides of the unit square")
    add("scale", "FACTOR", "enlarge it about the centre; X,Y for two factors")
    add("matrix", "A,B,C,D,E,F", "move x, y from the centre to A·x + B·y + C, D·x + E·y + F")
    add("transform", "JSON", 'more kinds: [{"lens": {"k1": -0.2}}], see docs/geometry.md')
    text = "what is shown outside of the unit square (default: extend, the network goes on)"
    parser.add_argument("--outside", choices=OUTSIDES, help=text)
    parser.add_argument("--wrap", choices=AXES, help="the picture repeats along these axes without a seam")
    text = "blend lines at the seam (default), or mirror every other period"
    parser.add_argument("--wrap-mode", choices=MODES, default="blend", help=text)
    text = f"part of the period that is blended (default: {DEFAULT_BLEND})"
    parser.add_argument("--wrap-blend", type=number, default=DEFAULT_BLEND, metavar="PART", help=text)


def seamless(options: Namespace) -> Wrap | None:
    """The parsed --wrap, --wrap-mode and --wrap-blend."""
    return None if options.wrap is None else Wrap(options.wrap, options.wrap_mode, options.wrap_blend)


def transform(kind: str, text: str) -> tuple[Transform, ...]:
    """The numbers of one transform, as ``0.1,0``."""
    numbers = [number(part) for part in text.split(",")]
    try:
        return (parse_transform({kind: numbers[0] if len(numbers) == 1 else numbers}),)
    except InputError as error:
        raise ArgumentTypeError(error.message) from None


def transforms(text: str) -> tuple[Transform, ...]:
    """A JSON list of transforms."""
    try:
        return parse_transforms(json.loads(text))
    except InputError as error:
        raise ArgumentTypeError(error.message) from None
    except (ValueError, RecursionError):
        raise ArgumentTypeError(f"must be JSON, not {_quote(text)}") from None


def edit(text: str) -> Edit:
    """``NAME=AMOUNT``, such as ``sefa:2=1.5``."""
    name, equals, amount = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"must be NAME=AMOUNT such as sefa:2=1.5, not {_quote(text)}")
    return Edit(name, number(amount))


def direction_name(text: str) -> tuple[str, str]:
    """``DIRECTION=NAME``, such as ``sefa:2=smile``."""
    direction, equals, name = text.partition("=")
    if not equals:
        raise ArgumentTypeError(f"must be DIRECTION=NAME such as sefa:2=smile, not {_quote(text)}")
    return direction, name


def _split_four(text: str) -> list[str]:
    parts = text.split(",")
    if len(parts) != 4:
        raise ArgumentTypeError(f"must be four numbers, not {_quote(text)}")
    return parts


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…")


def attach_negative_values(arguments: Sequence[str]) -> list[str]:
    """``--region -1,0,1,1`` as ``--region=-1,0,1,1``: argparse takes a list that begins with a minus for an option."""
    attached: list[str] = []
    for argument in arguments:
        if attached and re.match(r"-[\d.]", argument) and re.fullmatch(r"--[a-z]+", attached[-1]):
            attached[-1] += f"={argument}"
        else:
            attached.append(argument)
    return attached


def check_output(option: str, path: Path) -> None:
    """Raise InputError if no file can be written to ``path``."""
    if path.is_dir():
        raise InputError(option, f"{path} is a folder")
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(option, f"{path} cannot be written: {existing} is not a writable folder")
