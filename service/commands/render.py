"""``creps render``: render images without a server."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.latent import Latent
from model.spec import DEFAULT_QUALITY, FORMATS, IMAGE_FORMATS, Encoding, ImageFormat, Metadata, RenderSpec
from model.util.arguments import ArgumentParser
from model.util.files import terminate_as_interrupt
from model.viewport import Grid, Viewport
from service.commands import options as types
from service.commands.batch import Batch, render_batch
from service.commands.latents import add_latents, find_latent
from service.commands.options import (
    add_checkpoint,
    add_device,
    add_latent_options,
    add_size,
    add_transforms,
    attach_negative_values,
    check_output,
)
from service.commands.render_output import write_output
from service.imaging.atomic_move import tiles_folder
from service.imaging.encode import IMAGE_FORMATS_BY_SUFFIX
from service.imaging.export_spec import DEFAULT_TILE, ExportSpec
from service.imaging.metadata import read_spec
from service.imaging.object_store import STORE_ERRORS, reason
from service.models.catalog import DEMO_NAME, open_checkpoint

MAX_PIXELS = 2**28
"""Largest image other than PNG and those of TILED: its pixels are held in memory, 3 bytes each, and again as a file.
With more than 8 bits a pixel counts as four."""

Tiled = Literal["dzi", "tiff"]
TILED: tuple[Tiled, ...] = get_args(Tiled)

Output = ImageFormat | Tiled

_BY_SUFFIX: dict[str, Output] = {**IMAGE_FORMATS_BY_SUFFIX, "jpeg": "jpeg", "tif": "tiff", "dzi": "dzi"}

_OPTIONS = {
    "wrap_blend": "wrap-blend",
    "truncation_psi": "psi",
    "truncation_cutoff": "cutoff",
    "class_index": "class",
    "format": "tile-format",
    "edits": "edit",
    "width": "size",
    "height": "size",
}
"""Options that set fields with other names."""

STYLEGAN_OPTIONS = {
    "--trunc": "--psi",
    "--network": "CHECKPOINT, the first argument",
}
"""Options of StyleGAN's gen_images.py, and what this command has in their place."""


@dataclass(frozen=True)
class Options:
    """The parsed command line. ``export`` is set if the output is one of TILED, ``batch`` for several seeds."""

    checkpoint: Checkpoint
    device: str
    output: Path
    spec: RenderSpec
    export: ExportSpec | None = None
    batch: Batch | None = None


def main(arguments: Sequence[str]) -> None:
    """Render an image into a file. Raises InputError if an option is invalid, or the file cannot be written.

    Then partial files are deleted, and existing ones are left as they were.
    """
    options = parse(arguments)

    from kernels.renderer import Renderer  # not at the top: --help and errors need no torch
    from model.util.device import find_device

    if find_device(options.device).type == "cuda":
        print("preparing the GPU, which takes a while the first time …", file=sys.stderr)
    renderer = Renderer(options.checkpoint, options.device)
    try:
        with terminate_as_interrupt():
            if options.batch is not None:
                print(render_batch(options.batch, renderer))
                return
            if options.export is not None and options.output.exists():
                print(f"{options.output} exists, and is replaced when the new image is complete", file=sys.stderr)
            size = write_output(options.export or options.spec, renderer, options.output)
    except InputError as error:  # the network does not have the direction of --edit
        raise _name_option(error) from None
    except STORE_ERRORS as error:
        raise InputError("output", f"{options.output} cannot be written: {reason(error)}") from None
    _, _, width, height = options.spec.viewport.crop
    print(f"{options.output}: {width}×{height} pixels, {size}")


def parse(arguments: Sequence[str]) -> Options:
    """Parse and check the command line. Raises InputError with the name of the option."""
    options = _parser().parse_args(attach_negative_values(arguments))
    try:
        like = None if options.like is None else read_spec(options.like.read_bytes())
        return _resolve(options, _find_checkpoint(options.checkpoint, like), like)
    except InputError as error:
        raise _name_option(error) from None


def _name_option(error: InputError) -> InputError:
    """The error with the option's name in place of the field's, such as ``edits.0.amount``."""
    return InputError(_OPTIONS.get(error.field.partition(".")[0], error.field), error.message)


def _find_checkpoint(given: str | None, like: RenderSpec | None) -> Checkpoint:
    if given is None and like is None:
        raise InputError("CHECKPOINT", f'is required: a file, or "{DEMO_NAME}"')
    checkpoint = open_checkpoint(given or DEMO_NAME)
    if like is not None and like.model != checkpoint.digest:
        raise InputError("CHECKPOINT" if given is None else "like", f"must be the model with digest {like.model[:64]}")
    return checkpoint


def _resolve(options: Namespace, checkpoint: Checkpoint, like: RenderSpec | None) -> Options:
    file_format = _find_format(options.format, options.output)
    source = options.latent or options.like
    stem = source.stem if source else "mix" if options.mix else f"seed{options.seed or 0}"
    output = options.output or Path(f"{stem}.{file_format}")
    if output == options.like:
        raise InputError("output", f"is the picture of --like, {output}")
    latent = find_latent(options, checkpoint, like)
    latent.check(checkpoint.config)
    viewport = _find_viewport(options, checkpoint.config.resolution, like)
    if options.seeds is not None:
        return _resolve_batch(options, checkpoint, latent, viewport, file_format)
    for field, given in (("outdir", options.outdir), ("sheet", options.sheet)):
        if given is not None:
            raise InputError(field, "is for --seeds")
    check_output("output", output)
    if _is_tiled(file_format, options, viewport):
        lossless: ImageFormat = "tiff" if options.bits > 8 and file_format == "tiff" else "png"
        encoding = Encoding(options.tile_format or lossless, options.quality, options.metadata, options.bits)
        spec = RenderSpec(checkpoint.digest, latent, viewport, encoding)
        export = ExportSpec(spec, cast(Tiled, file_format), options.tile or DEFAULT_TILE)
        if file_format == "dzi":
            _check_deep_zoom(output)
        return Options(checkpoint, options.device, output, spec, export)
    for field, given in (("tile", options.tile), ("tile-format", options.tile_format)):
        if given is not None:
            raise InputError(field, f"is for {' and '.join(TILED)}, not for {file_format}")
    encoding = Encoding(cast(ImageFormat, file_format), options.quality, options.metadata, options.bits)
    spec = RenderSpec(checkpoint.digest, latent, viewport, encoding)
    spec.encoding.check_size(*viewport.crop[2:])
    most = MAX_PIXELS // 4 if encoding.is_deep else MAX_PIXELS
    if file_format != "png" and viewport.pixels > most:
        limit = f"of a {file_format} image must be at most {most:,} pixels in all; png, tiff and dzi hold more"
        raise InputError("size" if options.crop is None else "crop", limit)
    return Options(checkpoint, options.device, output, spec)


def _find_viewport(options: Namespace, resolution: int, like: RenderSpec | None) -> Viewport:
    """The viewport of the options. With --like, that of its picture, which may have another size."""
    if like is None:
        width, height = options.size or (resolution, resolution)
        return Viewport.resolve(
            width,
            height,
            options.region,
            options.crop,
            options.grid or "centers",
            options.transform,
            options.outside or "extend",
            types.seamless(options),
        )
    given = options.size, options.region, options.crop, options.outside, options.wrap
    if given == (None,) * 5 and not options.transform:
        return like.viewport
    width, height = options.size or like.viewport.crop[2:]
    region = options.region or like.viewport.crop_region
    wrap = types.seamless(options) or like.viewport.wrap
    transform, outside = (*like.viewport.transform, *options.transform), options.outside or like.viewport.outside
    return Viewport.resolve(
        width, height, region, options.crop, options.grid or like.viewport.grid, transform, outside, wrap
    )


def _resolve_batch(
    options: Namespace, checkpoint: Checkpoint, latent: Latent, viewport: Viewport, file_format: Output
) -> Options:
    if _is_tiled(file_format, options, viewport):
        raise InputError("seeds", f"are for {', '.join(IMAGE_FORMATS)}, not for {file_format} made of tiles")
    encoding = Encoding(cast(ImageFormat, file_format), options.quality, options.metadata, options.bits)
    spec = RenderSpec(checkpoint.digest, latent, viewport, encoding)
    specs = [replace(spec, latent=replace(latent, seed=seed)) for seed in options.seeds]
    batch = Batch.resolve(specs, options.outdir, options.sheet, options.output)
    return Options(checkpoint, options.device, batch.place, spec, batch=batch)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps render",
        description="Renders one image of any size, or a crop of it.",
        renamed=STYLEGAN_OPTIONS,
    )
    add_checkpoint(parser, nargs="?")
    add = parser.add_argument
    add("--seed", type=types.integer, help="seed of the image (default: 0)")
    add("--seeds", type=types.seeds, metavar="0-15,40", help="several images: seed0000.png … in --outdir")
    add("--outdir", type=Path, metavar="DIR", help="folder of the images of --seeds")
    add("--sheet", type=types.grid, metavar="COLSxROWS", help="the images of --seeds as one contact sheet, in --output")
    add_latents(parser)
    add_latent_options(parser)
    add_size(parser)
    add(
        "--region",
        type=types.region,
        metavar="X0,Y0,X1,Y1",
        help="part of the unit square that the whole image shows; may extend beyond it",
    )
    add("--crop", type=types.crop, metavar="X,Y,W,H", help="render only these pixels of the whole image")
    add("--grid", choices=get_args(Grid), help="position of the pixels (default: centers)")
    add_transforms(parser)
    add_device(parser)
    add("--output", type=Path, metavar="FILE", help="default: seedSEED.png, or sheet.png")
    add(
        "--format",
        type=_format_name,
        choices=(*IMAGE_FORMATS, "dzi"),
        help="default: by the suffix of the output, else png. tiff: one tiled BigTIFF with all smaller sizes in it; "
        "dzi: Deep Zoom, NAME.dzi and a folder NAME_files of tiles; these and png may be larger than memory",
    )
    bits = (
        "of a number: png 8 (default) or 16, avif 8 or 10, jxl 8, 16 or 32, tiff 8, 16 or 32 (above 8 without tiles, "
        "unless it is large or --tile is given), npy 32"
    )
    add("--bits", type=types.integer, default=0, help=bits)
    quality = f"1 to 100, of jpeg, webp, avif and jxl (default: {DEFAULT_QUALITY})"
    add("--quality", type=types.integer, default=DEFAULT_QUALITY, help=quality)
    metadata = "full: the file tells how it was made, see creps info (default)"
    add("--metadata", default="full", choices=get_args(Metadata), help=metadata)
    tile = f"of dzi and tiff: side of the tiles in pixels (default: {DEFAULT_TILE})"
    add("--tile", type=types.integer, metavar="SIDE", help=tile)
    add(
        "--tile-format",
        type=_format_name,
        choices=FORMATS,
        help="of dzi and tiff: png is lossless (default); webp for dzi only",
    )
    return parser


def _format_name(text: str) -> str:
    """jpg and JPEG as jpeg."""
    return _BY_SUFFIX.get(text.lower(), text)


def _find_format(given: Output | None, output: Path | None) -> Output:
    if given is not None or output is None:
        return given or "png"
    if (suffix := output.suffix.lower().removeprefix(".")) not in _BY_SUFFIX:
        suffixes = ", ".join(f".{suffix}" for suffix in _BY_SUFFIX)
        raise InputError("output", f"must end in one of {suffixes} if no --format is given, not {output}")
    return _BY_SUFFIX[suffix]


def _is_tiled(output: Output, options: Namespace, viewport: Viewport) -> bool:
    """Whether the output is made of tiles. A TIFF of more than 8 bits is if it is large, or if --tile is given."""
    large = options.tile is not None or viewport.pixels > MAX_PIXELS // 4
    return output == "dzi" or (output == "tiff" and (options.bits <= 8 or large))


def _check_deep_zoom(output: Path) -> None:
    if output.suffix.lower() != ".dzi":
        raise InputError("output", f"must end in .dzi for Deep Zoom, so that viewers find the tiles, not {output}")
    tiles = tiles_folder(output)
    if tiles.exists() and not (tiles.is_dir() and output.exists()):
        raise InputError("output", f"the folder of its tiles, {tiles}, exists but is not that of an {output.name}")
