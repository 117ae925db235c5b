"""From all tiles of an order to its finished file. Made anew with the same bytes where it is interrupted."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

import imagecodecs
import numpy as np
import obstore
from numpy.typing import NDArray

from service.outputs.deepzoom import descriptor
from service.outputs.order import Order
from service.outputs.png import write_png
from service.outputs.store import Store
from service.outputs.tiff import lay_out, write_tiff

Progress = Callable[[int], object]
"""Called with a number of tiles that are in the file now; in all as many as the order has. What it raises ends all, and
leaves no file."""

_THREADS = 8
"""Tiles read at once: a bucket answers each after tens of milliseconds."""

_PART_BYTES, _PARTS = 8 << 20, 9_000
"""A large object is sent in parts of so many bytes, or of more: S3 takes no more than 10,000 parts."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def finish(order: Order, store: Store, folder: str, progress: Progress) -> None:
    """Makes the file that is written last, ``folder/order.name``. It is there whole, or not at all.

    Memory holds no more than a row of tiles, and for each tile of a TIFF its place. Deep Zoom's tiles are not looked for:
    whoever draws them knows that they are there.

    Raises:
        STORE_ERRORS: a tile cannot be read, or the file not be written.
    """
    path = f"{folder}/{order.name}"
    if order.kind == "dzi":
        progress(order.pyramid.tiles)
        obstore.put(store, path, descriptor(order))
        return
    width, height = order.pyramid.width, order.pyramid.height
    with (
        ThreadPoolExecutor(_THREADS, thread_name_prefix="finish") as pool,
        obstore.open_writer(store, path, buffer_size=max(_PART_BYTES, 4 * width * height // _PARTS)) as writer,
    ):
        if order.kind == "tiff":
            _write_tiff(order, store, folder, writer.write, pool, progress)
        else:
            write_png(width, height, _bands(order, store, folder, pool, progress), writer.write, pool)


def _write_tiff(
    order: Order, store: Store, folder: str, write: Callable[[bytes], object], pool: Executor, progress: Progress
) -> None:
    sizes = {found["path"]: found["size"] for part in obstore.list(store, f"{folder}/tiles") for found in part}

    def length(index: int) -> int:
        name = f"{folder}/{order.tile_name(index)}"
        if name not in sizes:
            raise FileNotFoundError(f"the tile {name} is not in the store")
        return sizes[name]

    layout = lay_out(order, length)
    indices = (part for part in layout.parts if isinstance(part, int))

    def tiles() -> Iterator[bytes]:
        for content in _ahead(pool, lambda index: _read(order, store, folder, index), indices):
            progress(1)
            yield content

    write_tiff(layout, tiles(), write)


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
        for _ in _ahead(pool, place, itertools.islice(indices, picture.columns)):
            progress(1)
        yield band[: min(order.tile, picture.height - row * order.tile)]


def _read(order: Order, store: Store, folder: str, index: int) -> bytes:
    return bytes(obstore.get(store, f"{folder}/{order.tile_name(index)}").bytes())


def _ahead(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results in order; a few more are being made while one is used, not all as by Executor.map."""
    waiting: list[Future[Result]] = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > 2 * _THREADS:
            yield waiting.pop(0).result()
    for future in waiting:
        yield future.result()
