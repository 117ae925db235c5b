"""``creps info``: config, digest, size, cost and, on a GPU, precision of a checkpoint."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from model.arguments import ArgumentParser
from model.checkpoint import Checkpoint
from service.catalog import DEMO_NAME, open_checkpoint

if TYPE_CHECKING:
    from kernels.precision import Agreement


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and prints the description. Raises InputError where the file is no checkpoint."""
    parser = ArgumentParser(prog="creps info", description="Describes a checkpoint: config, digest, size and cost.")
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help=f'a checkpoint file, or "{DEMO_NAME}" for the bundled one'
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    checkpoint = open_checkpoint(options.checkpoint)
    description, precision = describe(checkpoint), _measure(checkpoint)
    if options.json:
        print(json.dumps(description | {"precision": [asdict(agreement) for agreement in precision]}, indent=2))
    else:
        print(_as_text(description, precision))


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What there is to know about a checkpoint, as JSON-ready values.

    A FLOP is one multiplication or one addition. A picture of H × W costs H·W times ``pixel_flops`` and H + W times
    ``line_flops``.
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
        "config": checkpoint.config.to_dict(),
        "info": dict(checkpoint.info),
    }


def _measure(checkpoint: Checkpoint) -> "Sequence[Agreement]":
    """How the arithmetics of this machine's GPU agree with fp64, the one that draws the checkpoint last."""
    import torch

    if not torch.cuda.is_available():
        return ()
    from kernels.renderer import Renderer

    print("compiling kernels and measuring their precision …", file=sys.stderr)
    return Renderer(checkpoint, "cuda").precision


def _as_text(description: dict[str, Any], precision: "Sequence[Agreement]") -> str:
    rows = {
        "name": description["name"],
        "digest": description["digest"],
        "file": f"{description['file_bytes'] / 1e6:,.1f} MB",
        "parameters": f"{description['parameters']:,}",
        "per pixel": f"{description['pixel_flops'] / 1e6:,.3f} MFLOP",
        "per line": f"{description['line_flops'] / 1e6:,.3f} MFLOP for each row and column",
        "precision": "; ".join(map(str, precision)) or "measured where a GPU loads the checkpoint; there is none here",
    }
    sections = [rows, description["config"], description["info"]]
    width = max(len(_plain(name)) for section in sections for name in section)
    return "\n\n".join(
        "\n".join(f"{_plain(name):{width}}  {_plain(value)}" for name, value in section.items())
        for section in sections
        if section
    )


def _plain(value: object) -> str:
    """A value out of a file as one line that cannot steer a terminal."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
