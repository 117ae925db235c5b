"""From all tiles of an order to its finished file. Made anew with the same bytes where it is interrupted."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import obstore
from numpy.typing import NDArray

from service.outputs.ahead import ahead
from service.outputs.deepzoom import descriptor
from service.outputs.order import Order
from service.outputs.png import write_png
from service.outputs.store import Store
from service.outputs.tiff import lay_out, scan, write_tiff

if TYPE_CHECKING:
    from obstore import WritableFile

Progress = Callable[[int], object]
"""Called with a number of tiles that are in the file now; in all as many as the order has. What it raises ends all, and
leaves no file."""

_THREADS = 8
"""Tiles read at once: a bucket answers each after tens of milliseconds."""

_PART_BYTES, _PARTS = 8 << 20, 9_000
"""A large object is sent in parts of so many bytes, or of more: S3 takes no more than 10,000 parts."""


def finish(order: Order, store: Store, folder: str, progress: Progress) -> None:
    """Makes the file that is written last, ``folder/order.name``. It is there whole, or not at all.

    Memory holds no more than a row of a PNG's tiles, or about 100 bytes for each tile of a TIFF. Whether Deep Zoom's
    tiles are there is not looked at: whoever drew them knows.

    Raises:
        STORE_ERRORS: a tile cannot be read, or the file not be written.
    """
    path = f"{folder}/{order.name}"
    if order.kind == "dzi":
        progress(order.pyramid.tiles)
        obstore.put(store, path, descriptor(order))
        return
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="finish") as pool:
        if order.kind == "tiff":
            layout = lay_out(order, _lengths(order, store, folder))
            with _open_writer(store, path, layout.size) as writer:
                write_tiff(layout, _tiles(order, store, folder, pool, progress), writer.write)
        else:
            width, height = order.pyramid.width, order.pyramid.height
            with _open_writer(store, path, 4 * width * height) as writer:
                write_png(width, height, _bands(order, store, folder, pool, progress), writer.write, pool)


def _open_writer(store: Store, path: str, size: int) -> "WritableFile":
    """Writes an object of at most ``size`` bytes. Leaving it by an exception leaves nothing there."""
    return obstore.open_writer(store, path, buffer_size=max(_PART_BYTES, size // _PARTS))


def _lengths(order: Order, store: Store, folder: str) -> NDArray[np.int64]:
    """The tiles' lengths in bytes [tiles]. Raises FileNotFoundError where one is missing."""
    lengths = np.full(order.pyramid.tiles, -1, np.int64)
    for found in itertools.chain.from_iterable(obstore.list(store, f"{folder}/tiles", chunk_size=1000)):
        index = order.tile_index(found["path"].removeprefix(f"{folder}/"))
        if index is not None:
            lengths[index] = found["size"]
    if (lengths < 0).any():
        raise FileNotFoundError(f"the tile {folder}/{order.tile_name(int(lengths.argmin()))} is not in the store")
    return lengths


def _tiles(order: Order, store: Store, folder: str, pool: Executor, progress: Progress) -> Iterator[bytes]:
    """The tiles as they stand in a TIFF."""
    for content in ahead(pool, lambda index: _read(order, store, folder, index), scan(order), 2 * _THREADS):
        progress(1)
        yield content


def _bands(order: Order, store: Store, folder: str, pool: Executor, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """The picture from top to bottom, a row of tiles at a time: all in the same memory."""
    level = len(order.pyramid.levels) - 1
    picture = order.pyramid.levels[level]
    band = np.empty((min(order.tile, picture.height), picture.width, 3), np.uint8)

    def place(index: int) -> None:
        x, _, w, h = order.tile_box(index)
        band[:h, x : x + w] = imagecodecs.png_decode(_read(order, store, folder, index))

    indices = order.pyramid.scan(level)
    for row in range(picture.rows):
        for _ in ahead(pool, place, itertools.islice(indices, picture.columns), 2 * _THREADS):
            progress(1)
        yield band[: min(order.tile, picture.height - row * order.tile)]


def _read(order: Order, store: Store, folder: str, index: int) -> bytes:
    return bytes(obstore.get(store, f"{folder}/{order.tile_name(index)}").bytes())
