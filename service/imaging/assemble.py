"""Assembles the tiles of an export into its final file. A repeated run gives the same bytes."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import imagecodecs
import numpy as np
import obstore
from numpy.typing import NDArray

from service.imaging.export_spec import ExportSpec
from service.imaging.metadata import png_metadata
from service.imaging.object_store import Store, open_writer
from service.imaging.png import write_png
from service.imaging.prefetch import prefetch
from service.imaging.tiff import make_layout, scan, write_tiff

Progress = Callable[[int], object]
"""Called with the number of tiles added since the last call. An exception ends the work and leaves no file."""

_THREADS = 8
"""Tiles read concurrently: a bucket needs tens of milliseconds for each."""

_DEEP_ZOOM_NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


def assemble(export: ExportSpec, store: Store, folder: str, progress: Progress) -> None:
    """Write ``folder/export.name``, the export's last file, atomically. Raises STORE_ERRORS.

    Memory holds at most one row of a PNG's tiles, or about 100 bytes for each tile of a TIFF. For Deep Zoom only the
    descriptor is written; the presence of the tiles is not checked.
    """
    path = f"{folder}/{export.name}"
    if export.kind == "dzi":
        progress(export.pyramid.tiles)
        obstore.put(store, path, deep_zoom_descriptor(export))
        return
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="assemble") as pool:
        if export.kind == "tiff":
            layout = make_layout(export, _lengths(export, store, folder))
            with open_writer(store, path, layout.size) as writer:
                write_tiff(layout, _tiles(export, store, folder, pool, progress), writer.write)
        else:
            width, height, bits = export.pyramid.width, export.pyramid.height, export.spec.encoding.bits
            with open_writer(store, path, width * height * bits // 2) as writer:
                bands = _bands(export, store, folder, pool, progress)
                write_png(width, height, bands, writer.write, pool, png_metadata(export.spec), bits)


def deep_zoom_descriptor(export: ExportSpec) -> bytes:
    """The .dzi file. Tiles do not overlap: neighbouring tiles are rendered without seams."""
    image = export.pyramid.levels[-1]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="{_DEEP_ZOOM_NAMESPACE}" Format="{export.suffix}" Overlap="0" TileSize="{export.tile}">\n'
        f'  <Size Width="{image.width}" Height="{image.height}"/>\n'
        "</Image>\n"
    ).encode()


def _lengths(export: ExportSpec, store: Store, folder: str) -> NDArray[np.int64]:
    """Length of each tile in bytes [tiles]. Raises FileNotFoundError if one is missing."""
    lengths = np.full(export.pyramid.tiles, -1, np.int64)
    for found in itertools.chain.from_iterable(obstore.list(store, f"{folder}/tiles", chunk_size=1000)):
        index = export.tile_index(found["path"].removeprefix(f"{folder}/"))
        if index is not None:
            lengths[index] = found["size"]
    if (lengths < 0).any():
        raise FileNotFoundError(f"the tile {folder}/{export.tile_name(int(lengths.argmin()))} is not in the store")
    return lengths


def _tiles(export: ExportSpec, store: Store, folder: str, pool: Executor, progress: Progress) -> Iterator[bytes]:
    """The contents of the tiles in the order of a TIFF."""
    for content in prefetch(pool, lambda index: _read(export, store, folder, index), scan(export), 2 * _THREADS):
        progress(1)
        yield content


def _bands(
    export: ExportSpec, store: Store, folder: str, pool: Executor, progress: Progress
) -> Iterator[NDArray[np.uint8 | np.uint16]]:
    """The image from top to bottom, one row of tiles at a time. Every band reuses the same buffer."""
    level = len(export.pyramid.levels) - 1
    image = export.pyramid.levels[level]
    dtype = np.uint16 if export.spec.encoding.is_deep else np.uint8
    band = np.empty((min(export.tile, image.height), image.width, 3), dtype)

    def decode(index: int) -> None:
        x, _, w, h = export.tile_box(index)
        band[:h, x : x + w] = imagecodecs.png_decode(_read(export, store, folder, index))

    indices = export.pyramid.scan(level)
    for row in range(image.rows):
        for _ in prefetch(pool, decode, itertools.islice(indices, image.columns), 2 * _THREADS):
            progress(1)
        yield band[: min(export.tile, image.height - row * export.tile)]


def _read(export: ExportSpec, store: Store, folder: str, index: int) -> bytes:
    return bytes(obstore.get(store, f"{folder}/{export.tile_name(index)}").bytes())
