"""``creps mix``: a contact sheet of style mixing, as StyleGAN's style_mixing.py makes."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from model.errors import InputError
from model.latents.latent import Latent, LayerStyles
from model.latents.ranges import parse_layers
from model.spec import RenderSpec
from model.util.arguments import ArgumentParser
from model.util.files import terminate_as_interrupt
from model.viewport import Viewport
from service.commands import options as types
from service.commands.batch import Batch, render_batch, sheet_path
from service.commands.options import add_checkpoint, add_device, add_latent_options, add_size, attach_negative_values
from service.models.catalog import open_checkpoint

STYLEGAN_OPTIONS = {"--trunc": "--psi", "--network": "CHECKPOINT, the first argument", "--outdir": "--output"}
"""Options of StyleGAN's style_mixing.py, and what this command has in their place."""

_OPTIONS = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class", "sheet": "size"}


def main(arguments: Sequence[str]) -> None:
    """Render a sheet. Raises InputError if an option is invalid, or OSError if the file cannot be written."""
    options = _parser().parse_args(attach_negative_values(arguments))
    try:
        batch = _resolve(options)
    except InputError as error:
        raise InputError(_OPTIONS.get(error.field, error.field), error.message) from None

    from kernels.renderer import Renderer  # not at the top: --help and errors need no torch

    renderer = Renderer(open_checkpoint(options.checkpoint), options.device)
    with terminate_as_interrupt():
        print(render_batch(batch, renderer))


def _resolve(options: Namespace) -> Batch:
    checkpoint = open_checkpoint(options.checkpoint)
    config = checkpoint.config
    layers = parse_layers("styles", options.styles, config.num_ws)
    class_index = checkpoint.find_class(options.class_index)

    def latent(seed: int) -> Latent:
        return Latent(seed, class_index=class_index, psi=options.psi, cutoff=options.cutoff)

    latent(options.rows[0]).check(config)
    viewport = Viewport.resolve(*(options.size or (config.resolution,) * 2))
    latents = list(
        mixing_grid([latent(seed) for seed in options.rows], [latent(seed) for seed in options.cols], layers)
    )
    specs = [RenderSpec(checkpoint.name, each, viewport) for _, each in latents]
    columns = 1 + len(options.cols)
    sheet = sheet_path(options.output, None, len(specs) + 1, columns, specs[0])
    legend = ("columns:", f"styles {options.styles}", "rows:", "the others")
    return Batch(specs, [], [label for label, _ in latents], sheet, columns, legend)


def mixing_grid(
    rows: Sequence[Latent], cols: Sequence[Latent], layers: tuple[int, ...]
) -> Iterator[tuple[str, Latent]]:
    """Labels and latents of a sheet, row by row, without its first corner, which tells what they are.

    The first row has the latents of ``cols``, the first column those of ``rows``. An image of the inside has the layers
    ``layers`` of its column, and the others of its row.
    """
    for col in cols:
        yield str(col.seed), col
    for row in rows:
        yield str(row.seed), row
        for col in cols:
            yield f"{row.seed} + {col.seed}", replace(row, styles=(LayerStyles(layers, col),))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps mix",
        description="Renders a contact sheet of style mixing: each image has some styles of its column, the others of "
        "its row. All latents are truncated before they are mixed.",
        renamed=STYLEGAN_OPTIONS,
    )
    add_checkpoint(parser)
    add = parser.add_argument
    add("--rows", type=types.seeds, default="85,100,75", metavar="SEEDS", help="seeds of the rows, such as 85,100-102")
    add("--cols", type=types.seeds, default="55,821", metavar="SEEDS", help="seeds of the columns")
    add(
        "--styles", required=True, metavar="LAYERS", help="layers from the columns, such as 0-3; creps info counts them"
    )
    add_latent_options(parser)
    add_size(parser)
    add_device(parser)
    add("--output", type=Path, metavar="FILE", help="default: sheet.png in the current folder")
    return parser
