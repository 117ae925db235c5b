"""``creps info``: config, digest, size and cost of a checkpoint, and on demand its precision."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.checkpoint import Checkpoint
from model.util.arguments import ArgumentParser
from service.commands.options import add_checkpoint
from service.imaging.metadata import is_picture, read_description
from service.models.catalog import open_checkpoint

if TYPE_CHECKING:
    from kernels.accuracy import AccuracyReport


def main(arguments: Sequence[str]) -> None:
    """Print a description of a checkpoint. Raises InputError if the file is not one."""
    parser = ArgumentParser(
        prog="creps info",
        description="Describes a checkpoint: config, digest, size and cost. Of an image file, tells how it was made.",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--precision", action="store_true", help="also measure how precisely this machine renders: takes seconds"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if is_picture(Path(options.checkpoint)):
        print(json.dumps(read_description(Path(options.checkpoint).read_bytes()), indent=2))
        return
    checkpoint = open_checkpoint(options.checkpoint)
    description, precision = describe(checkpoint), _measure(checkpoint) if options.precision else None
    if options.json:
        measured = {} if precision is None else {"precision": [asdict(report) for report in precision]}
        print(json.dumps(description | measured, indent=2))
    else:
        print(_as_text(description, precision))


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Describe a checkpoint as JSON values.

    A FLOP is one multiplication or one addition. An image of H × W costs H·W · ``pixel_flops`` + (H + W) ·
    ``line_flops``. Detail was learnt of images of up to ``detail_pixels`` a side.
    """
    import torch

    from model.generator import Generator

    with torch.device("meta"):
        generator = Generator(checkpoint.config)
    return {
        "name": checkpoint.name,
        "digest": checkpoint.digest,
        "file_bytes": checkpoint.path.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "pixel_flops": 2 * checkpoint.config.pixel_macs,
        "line_flops": 2 * checkpoint.config.line_macs,
        "detail_pixels": round(checkpoint.config.resolution * checkpoint.config.max_scale),
        "config": checkpoint.config.to_dict(),
        "info": dict(checkpoint.info),
    }


def _measure(checkpoint: Checkpoint) -> "Sequence[AccuracyReport]":
    """Accuracy of the precisions that this machine tried, relative to fp64; the last is used for rendering."""
    from kernels.renderer import Renderer

    print("measuring precision; kernels are compiled the first time …", file=sys.stderr)
    return Renderer(checkpoint).precision


def _as_text(description: dict[str, Any], precision: "Sequence[AccuracyReport] | None") -> str:
    rows = {
        "name": description["name"],
        "digest": description["digest"],
        "file": f"{description['file_bytes'] / 1e6:,.1f} MB",
        "parameters": f"{description['parameters']:,}",
        "per pixel": f"{description['pixel_flops'] / 1e6:,.3f} MFLOP",
        "per line": f"{description['line_flops'] / 1e6:,.3f} MFLOP for each row and column",
        "detail": "of images of up to {0}×{0}".format(description["detail_pixels"]),
    }
    if precision is not None:
        rows["precision"] = "; ".join(map(str, precision))
    sections = [rows, description["config"], description["info"]]
    width = max(len(_plain(name)) for section in sections for name in section)
    return "\n\n".join(
        "\n".join(f"{_plain(name):{width}}  {_plain(value)}" for name, value in section.items())
        for section in sections
        if section
    )


def _plain(value: object) -> str:
    """A value from a file as one line without control characters."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
