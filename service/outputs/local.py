"""Large pictures made by a renderer of this machine, without a queue."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import obstore
from numpy.typing import NDArray

from model.spec import RenderSpec
from service.outputs.order import Order
from service.outputs.png import write_png
from service.outputs.store import Store
from service.outputs.tiles import encode_tile

HAND_SECONDS = 0.25
"""About as long the renderer draws before its tiles go to the encoders: long enough to keep a GPU busy, short enough to
show progress and to stop soon."""

HAND_PIXELS = 1 << 24
"""No more are drawn at once: 50 MB, and as much again that is being encoded."""

Picture = NDArray[np.uint8]

Progress = Callable[[int], object]


class Draws(Protocol):
    """What drawing tiles needs of kernels.renderer.Renderer."""

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[Picture]:
        """The pictures [h, w, 3] of specs."""


class DrawsBands(Protocol):
    """What writing a PNG needs of kernels.renderer.Renderer."""

    def bands(self, spec: RenderSpec, progress: Progress) -> Iterator[Picture]:
        """The picture's crop from top to bottom, in bands [rows, w, 3]."""


def draw_tiles(order: Order, renderer: Draws, store: Store, folder: str, progress: Progress) -> None:
    """Renders all tiles of an order, small levels first, and keeps them in a store for :func:`finish`.

    Tiles are encoded and stored in threads while the next ones are rendered.

    Args:
        progress: called with the pixels of each tile that is in the store; in all ``order.pyramid.pixels``. What it
            raises ends all.

    Raises:
        InputError: the latent does not fit the network.
        STORE_ERRORS: a tile cannot be kept.
    """

    def keep(index: int, picture: Picture) -> int:
        obstore.put(store, f"{folder}/{order.tile_name(index)}", encode_tile(order, picture))
        return picture.size // 3

    with ThreadPoolExecutor(thread_name_prefix="encode") as encoders:
        waiting: list[Future[int]] = []
        for indices, pictures in _hands(order, renderer):
            for future in waiting:
                progress(future.result())
            waiting = [encoders.submit(keep, *each) for each in zip(indices, pictures, strict=True)]
        for future in waiting:
            progress(future.result())


def draw_png(spec: RenderSpec, renderer: DrawsBands, path: Path, progress: Progress) -> None:
    """Renders a picture into one PNG, the same that an order of it makes, and holds some bands of it at a time.

    Args:
        progress: as of kernels.renderer.Renderer.bands.

    Raises:
        InputError: the latent does not fit the network.
        OSError: the file cannot be written.
    """
    _, _, width, height = spec.viewport.crop
    with path.open("wb") as file, ThreadPoolExecutor(thread_name_prefix="encode") as encoders:
        write_png(width, height, renderer.bands(spec, progress), file.write, encoders)


def _hands(order: Order, renderer: Draws) -> Iterator[tuple[range, list[Picture]]]:
    """All tiles, as many at a time as take about HAND_SECONDS."""
    total, most = order.pyramid.tiles, max(1, HAND_PIXELS // order.tile**2)
    start, count = 0, 1
    while start < total:
        indices = range(start, min(start + count, total))
        began = time.perf_counter()
        pictures = renderer.render_batch([order.tile_spec(index) for index in indices])
        seconds = time.perf_counter() - began
        yield indices, pictures
        start = indices.stop
        # At most twice as many as before: the small levels' tiles say little of those to come.
        count = min(max(1, int(count * HAND_SECONDS / seconds)), 2 * count, most)
