"""Large images rendered in this process, without a queue."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import obstore
from numpy.typing import NDArray

from model.spec import RenderSpec
from model.util.cpus import available_cpus
from service.imaging.export_spec import ExportSpec
from service.imaging.object_store import Store
from service.imaging.tile_encoding import encode_tile

BATCH_SECONDS = 0.25
"""Target duration of a batch: long enough to keep a GPU busy, short enough to show progress and to stop soon."""

BATCH_PIXELS = 1 << 24
"""Most pixels in a batch: 50 MB, and as much again for the batch that is being encoded. Colours are four times as many
bytes, so a quarter of the pixels."""

PixelArray = NDArray[Any]
"""8-bit levels, or colours as float32."""

Progress = Callable[[int], object]


class Renderer(Protocol):
    """The method of kernels.renderer.Renderer that is used here."""

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[PixelArray]:
        """The images [h, w, 3] of the specs."""


def render_tiles(export: ExportSpec, renderer: Renderer, store: Store, folder: str, progress: Progress) -> None:
    """Render all tiles of an export, small levels first, and store them for :func:`service.imaging.assemble.assemble`.

    Tiles are encoded and stored in threads while the next batch is rendered. ``progress`` is called with the number of
    pixels of each stored tile; an exception in it ends the work. Raises STORE_ERRORS, and InputError if the latent does
    not fit the network.
    """

    def store_tile(index: int, image: PixelArray) -> int:
        obstore.put(store, f"{folder}/{export.tile_name(index)}", encode_tile(export, index, image))
        return image.size // 3

    with ThreadPoolExecutor(available_cpus(), thread_name_prefix="encode") as encoders:
        waiting: list[Future[int]] = []
        for indices, images in _batches(export, renderer):
            for future in waiting:
                progress(future.result())
            waiting = [encoders.submit(store_tile, *each) for each in zip(indices, images, strict=True)]
        for future in waiting:
            progress(future.result())


def _batches(export: ExportSpec, renderer: Renderer) -> Iterator[tuple[range, list[PixelArray]]]:
    """All tiles, in batches that take about BATCH_SECONDS to render."""
    total, most = export.pyramid.tiles, max(1, _batch_pixels(export) // export.tile**2)
    start, count = 0, 1
    while start < total:
        indices = range(start, min(start + count, total))
        began = time.perf_counter()
        images = renderer.render_batch([export.tile_spec(index) for index in indices])
        seconds = time.perf_counter() - began
        yield indices, images
        start = indices.stop
        # At most twice the last batch: the tiles of small levels take less time than those to come.
        count = min(max(1, int(count * BATCH_SECONDS / seconds)), 2 * count, most)


def _batch_pixels(export: ExportSpec) -> int:
    return BATCH_PIXELS // 4 if export.spec.encoding.is_deep else BATCH_PIXELS
