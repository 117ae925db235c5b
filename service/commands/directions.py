"""``creps directions``: the directions of a checkpoint, as a table and as a sheet of before and after."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import InputError
from model.latents.direction_names import encode_labels, names_path, read_labels, with_labels
from model.latents.latent import Edit, Latent
from model.spec import RenderSpec
from model.util.arguments import ArgumentParser
from model.util.files import terminate_as_interrupt, write_atomically
from model.viewport import Viewport
from service.commands import options as types
from service.commands.batch import Batch, render_batch, sheet_path
from service.commands.options import add_checkpoint, add_device, add_latent_options, add_size, attach_negative_values
from service.models.catalog import open_checkpoint

if TYPE_CHECKING:
    from model.latents.direction import Direction

AMOUNTS = (-3.0, -1.5, 0.0, 1.5, 3.0)
"""The columns of a sheet, in standard deviations."""

_OPTIONS = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class", "sheet": "size"}


def main(arguments: Sequence[str]) -> None:
    """Print the directions of a checkpoint. Raises InputError, or OSError if sheet or names cannot be written."""
    options = _parser().parse_args(attach_negative_values(arguments))
    checkpoint = open_checkpoint(options.checkpoint)
    config = checkpoint.config
    try:
        latent = Latent(
            options.seed,
            class_index=checkpoint.find_class(options.class_index),
            psi=options.psi,
            cutoff=options.cutoff,
        )
        latent.check(config)
    except InputError as error:
        raise InputError(_OPTIONS.get(error.field, error.field), error.message) from None
    viewport = Viewport.resolve(*(options.size or (config.resolution,) * 2))
    spec = RenderSpec(checkpoint.name, latent, viewport)
    if options.sheet is not None:
        sheet_path(options.sheet, None, 1, 1, spec)  # before the work

    labels = {name: label for name, label in (read_labels(checkpoint) | dict(options.name)).items() if label}
    names = encode_labels(checkpoint, labels)  # before the work, too

    from model.latents.direction_files import load_directions

    if not options.json:
        print("looking for directions, which takes a while the first time …", file=sys.stderr)
    directions = list(with_labels(load_directions(checkpoint), labels).values())
    if options.name:
        write_atomically(names_path(checkpoint), names)
    if options.json:
        print(json.dumps([describe(direction) for direction in directions], indent=2))
    else:
        _print_table(directions)
    if options.sheet is not None and directions:
        from kernels.renderer import Renderer

        shown = sorted(directions, key=lambda direction: -direction.effect)[: options.strongest]
        batch = _strips(spec, shown, options.sheet)
        with terminate_as_interrupt():
            print(render_batch(batch, Renderer(checkpoint, options.device)), file=sys.stderr)


def describe(direction: "Direction") -> dict[str, Any]:
    """A direction as JSON values."""
    numbers = {name: round(getattr(direction, name), 3) for name in ("sigma", "effect", "ratio", "luma", "chroma")}
    return {"name": direction.name, "label": direction.label, "layers": list(direction.layers), **numbers}


def _print_table(directions: Sequence["Direction"]) -> None:
    print(
        f"{'name':8} {'layers':8} {'effect':>7} {'brightness':>11} {'colour':>7}   (levels of 255 for an amount of 1)"
    )
    for each in directions:
        layers = "all" if each.name.startswith("pca") else ",".join(map(str, each.layers))
        row = f"{each.name:8} {layers:8} {each.effect:7.1f} {each.luma:+11.1f} {each.chroma:+7.1f}  {each.label or ''}"
        print(row.rstrip())


def _strips(spec: RenderSpec, directions: Sequence["Direction"], output: Path) -> Batch:
    """One row for each direction, one column for each amount."""
    cells = [(direction, amount) for direction in directions for amount in AMOUNTS]
    edits = [Edit(direction.name, amount) for direction, amount in cells]
    specs = [replace(spec, latent=replace(spec.latent, edits=(edit,))) for edit in edits]
    sheet = sheet_path(output, None, len(cells), len(AMOUNTS), spec)
    labels = [f"{direction.label or direction.name} {amount:+g}" for direction, amount in cells]
    return Batch(specs, [], labels, sheet, len(AMOUNTS))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps directions",
        description="Lists directions in which the images of a network can be edited with --edit NAME=AMOUNT, "
        "strongest first. They are computed once for a checkpoint and kept beside it.",
    )
    add_checkpoint(parser)
    add = parser.add_argument
    add("--json", action="store_true", help="print a JSON array")
    text = "call a direction by a name of yours, which --edit and the service take, too; an empty one is removed"
    add("--name", type=types.direction_name, action="append", default=[], metavar="DIRECTION=NAME", help=text)
    add("--sheet", type=Path, metavar="FILE", help="render what the strongest directions do to an image")
    add("--strongest", type=types.integer, default=10, metavar="N", help="directions of the sheet (default: 10)")
    add("--seed", type=types.integer, default=0, help="seed of the image of the sheet (default: 0)")
    add_latent_options(parser)
    add_size(parser)
    add_device(parser)
    return parser
