"""Writes an image of ``creps render``: as a whole, in bands, or as tiles. Partial files never appear."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from model.spec import RenderSpec
from model.util.cpus import available_cpus
from model.util.files import write_atomically
from service.commands.bars import rename, rendering_bar
from service.imaging.assemble import assemble
from service.imaging.atomic_move import folder_beside, move_deep_zoom, move_file, tiles_folder
from service.imaging.deep import to_levels
from service.imaging.export_spec import ExportSpec
from service.imaging.local_export import render_tiles
from service.imaging.metadata import encode_image, png_metadata
from service.imaging.object_store import open_store
from service.imaging.png import write_png

if TYPE_CHECKING:
    from kernels.renderer import Renderer

MAX_PIXELS_IN_MEMORY = 2**26
"""Largest PNG that is encoded in memory; of 16 bits a quarter. A larger one is written as it is rendered, which makes
it a tenth longer."""

_UNFINISHED = "image"
"""Subfolder of the temporary folder for the files of an export."""


def write_output(image: RenderSpec | ExportSpec, renderer: "Renderer", output: Path) -> str:
    """Render into a file, or of an export into its files, and return the size in words. Raises OSError."""
    if isinstance(image, ExportSpec):
        _write_tiles(image, renderer, output)
        if image.kind == "dzi":
            return f"{image.pyramid.tiles:,} tiles in {tiles_folder(output)}"
    elif image.encoding.format == "png" and (
        image.viewport.pixels > MAX_PIXELS_IN_MEMORY // (4 if image.encoding.is_deep else 1)
    ):
        _write_bands(image, renderer, output)
    else:
        _write_whole(image, renderer, output)
    return f"{output.stat().st_size:,} bytes"


def _write_whole(spec: RenderSpec, renderer: "Renderer", output: Path) -> None:
    with rendering_bar("rendering", renderer.cost(spec)) as bar:
        image = renderer.render(spec, bar.update)
        rename(bar, "encoding")
        content = encode_image(image, spec)
    write_atomically(output, content)


def _write_bands(spec: RenderSpec, renderer: "Renderer", output: Path) -> None:
    """Write a PNG, equal to that of a PNG export, with only some bands of it in memory."""
    _, _, width, height = spec.viewport.crop
    bits = spec.encoding.bits
    with folder_beside(output) as folder:
        path = folder / output.name
        with (
            rendering_bar("rendering", renderer.cost(spec)) as bar,
            path.open("wb") as file,
            ThreadPoolExecutor(available_cpus(), thread_name_prefix="encode") as encoders,
        ):
            bands = _levels(spec, renderer.bands(spec, bar.update))
            write_png(width, height, bands, file.write, encoders, png_metadata(spec), bits)
        move_file(path, output)


def _levels(spec: RenderSpec, bands: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The numbers of a PNG from bands of its 8-bit levels, or of its colours."""
    x, y, _, _ = spec.viewport.crop
    for band in bands:
        yield to_levels(band, spec.encoding.bits, (x, y)) if spec.encoding.is_deep else band
        y += len(band)


def _write_tiles(export: ExportSpec, renderer: "Renderer", output: Path) -> None:
    with folder_beside(output) as folder:
        store, unfinished = open_store(folder.absolute().as_uri()), folder / _UNFINISHED
        with rendering_bar("rendering", export.pyramid.pixels) as bar:
            render_tiles(export, renderer, store, _UNFINISHED, bar.update)
        with rendering_bar("writing", export.pyramid.tiles) as bar:
            assemble(export, store, _UNFINISHED, bar.update)
        file = unfinished / export.name
        if export.kind == "dzi":
            move_deep_zoom(file, tiles_folder(file), output, aside=folder)
        else:
            move_file(file, output)
