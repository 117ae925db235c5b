"""Warped images, block by block: lines of a fixed lattice, interpolated for each sample.

A row line and a column line are functions of one network coordinate each. Both are computed at multiples of a fixed
step and kept, so that a picture that turns costs pixels only, and Catmull-Rom splines give what lies between.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import Progress, to_pixels
from kernels.threads import TaskGroup
from kernels.tiling import Output, is_deep
from kernels.warp_tiles import FILL, Samples, WarpTile, blank, put_blocks, warp_tiles
from model.config import RGB, GeneratorConfig
from model.generator import COLUMNS, ROWS
from model.geometry.sampling import BLOCK
from model.latents.latent import Latent
from model.viewport import Viewport

if TYPE_CHECKING:
    from kernels.block_renderer import BlockBackend

LINES_PER_PIXEL = 8
"""Lines per pixel of the finest detail. On the bundled network and on random weights of 512² no pixel is more than one
level from eight times as many; with half of them some are two levels off."""

LINES_PER_CYCLE = 32
"""Lines per cycle of the highest input frequency, which spans only a few pixels in a network of low resolution."""

PAGE = 64
"""Lines that are computed and kept together."""

TILES_PER_THREAD = 4
"""At least, where tiles are large."""

SHARED_PAGES = 512
"""Pages of lines that are held for the tiles of an image: 225 MiB of the paper's 512 network."""

TILES = 4096
"""Tiles that wait for a thread."""

Style = TypeVar("Style")


class Lattice(NamedTuple):
    """Lines, and the four between which each of P samples lies.

    Attributes:
        pages: pages [bundles, PAGE, D, 32] of lines, contiguous.
        first: the first of a sample's four lines, counted through the pages, int32 [P].
        fraction: a sample's place between the second line and the third, 0 … 1, fp32 [P].
    """

    pages: Sequence[Tensor]
    first: NDArray[np.int32]
    fraction: NDArray[np.float32]

    def take(self, chosen: slice | NDArray[np.int64]) -> "Lattice":
        """The same lines and only some samples."""
        return self._replace(first=self.first[chosen], fraction=self.fraction[chosen])

    @property
    def taps(self) -> NDArray[np.int32]:
        """The four lines [P, 4] of each sample."""
        return self.first[:, None] + np.arange(4, dtype=np.int32)

    @property
    def weights(self) -> NDArray[np.float32]:
        """Their weights [P, 4]."""
        return spline_weights(self.fraction)


class Places(NamedTuple):
    """Where samples lie among the lines of one axis.

    Attributes:
        pages: numbers of the pages of lines that they need, in order.
        first, fraction: as in :class:`Lattice`.
    """

    pages: NDArray[np.int64]
    first: NDArray[np.int32]
    fraction: NDArray[np.float32]

    @classmethod
    def find(cls, coordinates: NDArray[np.float64], density: int) -> "Places":
        """The places of network coordinates [P]."""
        lines, fraction = nearest_lines(coordinates, density)
        page = lines // PAGE
        pages = np.union1d(_changes(page), _changes((lines + 3) // PAGE))
        first = lines + (np.searchsorted(pages, page) - page) * PAGE
        return cls(pages, first.astype(np.int32), fraction)


class SharedPages:
    """Pages of lines that tiles share, those used last. The first thread that needs one computes it, others wait."""

    def __init__(self, compute: Callable[[int, int], Tensor]) -> None:
        """``compute`` takes an axis and the number of a page."""
        self._compute = compute
        self._lock = threading.Lock()
        self._pages: OrderedDict[tuple[int, int], Future[Tensor]] = OrderedDict()

    def lattice(self, axis: int, places: Places) -> Lattice:
        """The lines that samples need."""
        pages = [self._request(axis, page) for page in places.pages.tolist()]
        return Lattice([page.result() for page in pages], places.first, places.fraction)

    def _request(self, axis: int, number: int) -> Future[Tensor]:
        with self._lock:
            if (page := self._pages.get((axis, number))) is not None:
                self._pages.move_to_end((axis, number))
                return page
            page = self._pages[axis, number] = Future()
            if len(self._pages) > SHARED_PAGES:
                self._pages.popitem(last=False)
        try:
            page.set_result(self._compute(axis, number))
        except BaseException as error:
            page.set_exception(error)  # for those who wait
            raise
        return page


def _changes(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers without repetitions of the one before: few, as neighbours mostly share a page."""
    numbers = numbers.ravel()
    return np.concatenate([numbers[:1], numbers[1:][numbers[1:] != numbers[:-1]]])


def lattice_density(resolution: int, highest_frequency: float) -> int:
    """Lines per unit of network coordinates, for a training resolution and a frequency in cycles per unit."""
    return max(LINES_PER_PIXEL * resolution, math.ceil(LINES_PER_CYCLE * highest_frequency))


def nearest_lines(coordinates: NDArray[np.float64], density: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For network coordinates [P], the first of four lines, counted from coordinate 0, and the fraction between the
    second and the third."""
    place = coordinates * density
    second = np.floor(place)
    return second.astype(np.int64) - 1, (place - second).astype(np.float32)


def spline_weights(fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights [P, 4] of the four lines at fractions [P] (Catmull and Rom 1974)."""
    t, t2, t3 = fraction, fraction**2, fraction**3
    weights = np.stack([2 * t2 - t - t3, 3 * t3 - 5 * t2 + 2, 4 * t2 + t - 3 * t3, t3 - t2], axis=-1)
    return (weights / 2).astype(np.float32)


@dataclass(frozen=True)
class BlockWarp(Generic[Style]):
    """Renders warped images with a backend's threads, styles and lines.

    Attributes:
        density: lines per unit of network coordinates.
        side: its square is the number of samples that are computed at once.
    """

    backend: "BlockBackend[Style]"
    config: GeneratorConfig
    pool: ThreadPoolExecutor
    threads: int
    density: int
    side: int

    def render(self, latent: Latent, viewport: Viewport, output: Output, progress: Progress | None) -> None:
        """Render an image's crop into ``output`` [h, w, 3]."""
        resolution, max_scale = self.config.resolution, self.config.max_scale
        style = self.pool.submit(self.backend.cached_style, latent)  # started before the tiles, which wait for it
        pages = SharedPages(partial(self._page, latent, style, viewport))
        for tiles in _batches(warp_tiles(viewport, resolution, self._tile_side(viewport), max_scale), TILES):
            with TaskGroup(self.pool) as tasks:
                for tile in tiles:
                    cost = tile.pixels * self.config.pixel_macs
                    tasks.submit(cost, self._render_tile, tile, style, pages, output)
                for cost in tasks.completed():
                    if progress is not None:
                        progress(cost)

    def _tile_side(self, viewport: Viewport) -> int:
        """Twice the side where that leaves each thread some tiles: fewer calls of Python, which others wait for."""
        *_, w, h = viewport.crop
        larger = 2 * self.side
        return larger if self.backend.clip and w * h >= TILES_PER_THREAD * self.threads * larger**2 else self.side

    def _page(self, latent: Latent, style: Future[Style], viewport: Viewport, axis: int, page: int) -> Tensor:
        """Lines [bundles, PAGE, D, 32] of a page."""
        positions = np.arange(page * PAGE, (page + 1) * PAGE, dtype=np.float64) / self.density
        positions = viewport.line_coordinates(positions, COLUMNS - axis, self.config.resolution)
        return self.backend.cached_lines(
            ("lattice", latent, axis, positions.tobytes()),
            lambda: self.backend.seamless_lines(style.result(), positions, axis).permute(0, 2, 3, 1).contiguous(),
        )

    def _render_tile(self, tile: WarpTile, style: Future[Style], pages: SharedPages, output: Output) -> None:
        pixels = blank(tile.side, output)
        for samples in tile.sample(visible=self.backend.clip):
            coordinates = samples.coordinates.reshape(-1, 2)
            rows, columns = (
                pages.lattice(axis, Places.find(coordinates[:, axis], self.density)) for axis in (ROWS, COLUMNS)
            )
            colours = self._colours(style.result(), rows, columns)
            put_blocks(samples, average_samples(colours, samples, deep=is_deep(output)), pixels)
        tile.place(pixels, output)

    def _colours(self, style: Style, rows: Lattice, columns: Lattice) -> Tensor:
        """Colours [P, 3] of samples, computed in equal parts unless the backend allows any."""
        count, step = len(rows.first), self.side**2
        parts = []
        for start in range(0, count, step):
            stop = min(start + step, count) if self.backend.clip else start + step
            chosen = slice(start, stop) if stop <= count else np.arange(start, stop).clip(max=count - 1)
            parts.append(self.backend.warp_colours(style, rows.take(chosen), columns.take(chosen)))
        return torch.cat(parts)[:count]


def average_samples(colours: Tensor, samples: Samples, *, deep: bool = False) -> Output:
    """Pixels [n, 16, 16, 3] of the colours [n·(16·m)², 3] of all samples of blocks."""
    m = samples.factor
    if samples.filled.any():
        colours = colours.masked_fill(torch.from_numpy(samples.filled.reshape(-1, 1)).to(colours.device), FILL)
    boxes = colours.reshape(-1, BLOCK, m, BLOCK, m, RGB)
    means = boxes if m == 1 else boxes.sum(dim=(2, 4), dtype=torch.float64) / m**2
    return to_pixels(means, deep=deep).reshape(-1, BLOCK, BLOCK, RGB)


def _batches(tiles: Iterator[WarpTile], size: int) -> Iterator[list[WarpTile]]:
    batch: list[WarpTile] = []
    for tile in tiles:
        batch.append(tile)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
