"""``creps render``: one picture, without a server."""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from model.errors import InputError
from model.files import write_atomically
from model.spec import RenderSpec
from service.commands.render_options import Options, parse
from service.encode import encode
from service.outputs.finish import finish
from service.outputs.local import draw_png, draw_tiles
from service.outputs.order import Order
from service.outputs.placing import folder_beside, place_deep_zoom, place_file, tiles_folder
from service.outputs.store import STORE_ERRORS, folder_store, reason

if TYPE_CHECKING:
    from kernels.renderer import Renderer

WHOLE_PIXELS = 2**26
"""Largest picture that is held in memory, 3 bytes a pixel, and again as a file. A larger PNG is written as it is drawn,
about a tenth longer."""

_PROGRESS_DELAY = 2.0
"""Seconds before a progress bar appears."""

_SMOOTHING = 0.05
"""Weight of the newest measurement in the speed that tells the remaining time. Tiles come in bursts."""

_UNFINISHED = "picture"
"""Where an order's files are in the hidden folder, until they are finished."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, renders, and writes the file.

    Raises:
        InputError: names the option that cannot be used. Nothing is left of what could not be finished, and what was at
            the output's place is there still.
    """
    options = parse(arguments)

    from kernels.renderer import Renderer  # here, so that --help and mistakes need no torch
    from model.device import find_device

    if find_device(options.device).type == "cuda":
        print("preparing the GPU, which takes a while the first time …", file=sys.stderr)
    renderer = Renderer(options.checkpoint, options.device)
    try:
        with _interrupted_by_sigterm():
            size = _write(options, renderer)
    except STORE_ERRORS as error:
        raise InputError("output", f"{options.output} cannot be written: {reason(error)}") from None
    _, _, width, height = options.spec.viewport.crop
    print(f"{options.output}: {width}×{height} pixels, {size}")


def _write(options: Options, renderer: "Renderer") -> str:
    """Renders into the file or files and tells how large they are."""
    if options.order is not None:
        _write_tiles(options.order, renderer, options.output)
    elif options.spec.encoding.format == "png" and options.spec.viewport.pixels > WHOLE_PIXELS:
        _write_bands(options.spec, renderer, options.output)
    else:
        _write_whole(options.spec, renderer, options.output)
    if options.order is not None and options.order.kind == "dzi":
        return f"{options.order.pyramid.tiles:,} tiles in {tiles_folder(options.output)}"
    return f"{options.output.stat().st_size:,} bytes"


def _write_whole(spec: RenderSpec, renderer: "Renderer", output: Path) -> None:
    with _bar("rendering", renderer.cost(spec)) as bar:
        picture = renderer.render(spec, bar.update)
        bar.set_description("encoding", refresh=bar.format_dict["elapsed"] > _PROGRESS_DELAY)
        content = encode(picture, spec.encoding)
    write_atomically(output, content)


def _write_bands(spec: RenderSpec, renderer: "Renderer", output: Path) -> None:
    with folder_beside(output) as folder:
        file = folder / output.name
        with _bar("rendering", renderer.cost(spec)) as bar:
            draw_png(spec, renderer, file, bar.update)
        place_file(file, output)


def _write_tiles(order: Order, renderer: "Renderer", output: Path) -> None:
    with folder_beside(output) as folder:
        store, unfinished = folder_store(folder), folder / _UNFINISHED
        with _bar("rendering", order.pyramid.pixels) as bar:
            draw_tiles(order, renderer, store, _UNFINISHED, bar.update)
        with _bar("writing", order.pyramid.tiles) as bar:
            finish(order, store, _UNFINISHED, bar.update)
        file = unfinished / order.name
        if order.kind == "dzi":
            place_deep_zoom(file, tiles_folder(file), output, aside=folder)
        else:
            place_file(file, output)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C, so that it, too, leaves nothing behind. For the main thread."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _bar(description: str, total: int) -> "tqdm[NoReturn]":
    return tqdm(
        desc=description,
        total=total,
        delay=_PROGRESS_DELAY,
        smoothing=_SMOOTHING,
        bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed} < {remaining}",
    )
