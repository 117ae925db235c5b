"""Warped images, block by block: lines of a fixed lattice, interpolated for each sample.

A row line and a column line are functions of one network coordinate each. Both are computed at multiples of a fixed
step and kept, so that a picture that turns costs pixels only, and Catmull-Rom splines give what lies between.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

TILES_PER_THREAD = 16
"""Tiles per thread in one batch of work, whose coordinates are held in memory."""

Style = TypeVar("Style")
Pages = dict[int, Future[Tensor]]


class Lattice(NamedTuple):
    """Lines, and those between which each of P samples lies.

    Attributes:
        lines: [bundles, L, D, 32], contiguous.
        taps: four lines for each sample, int32 [P, 4].
        weights: fp32 [P, 4].
    """

    lines: Tensor
    taps: Tensor
    weights: Tensor


def lattice_density(resolution: int, highest_frequency: float) -> int:
    """Lines per unit of network coordinates, for a training resolution and a frequency in cycles per unit."""
    return max(LINES_PER_PIXEL * resolution, math.ceil(LINES_PER_CYCLE * highest_frequency))


def first_lines(coordinates: NDArray[np.float64], density: int) -> NDArray[np.int64]:
    """The first of the four lines of each network coordinate, counted from coordinate 0."""
    return np.floor(coordinates * density).astype(np.int64) - 1


def spline_weights(coordinates: NDArray[np.float64], density: int) -> NDArray[np.float32]:
    """Weights [P, 4] of the four lines of network coordinates [P] (Catmull and Rom 1974)."""
    place = coordinates * density
    t = (place - np.floor(place)).astype(np.float32)
    t2, t3 = t * t, t * t * t
    weights = np.stack([2 * t2 - t - t3, 3 * t3 - 5 * t2 + 2, 4 * t2 + t - 3 * t3, t3 - t2], axis=-1)
    return (weights / 2).astype(np.float32)


@dataclass(frozen=True)
class BlockWarp(Generic[Style]):
    """Renders warped images with a backend's threads, styles and lines.

    Attributes:
        density: lines per unit of network coordinates.
        side: side of tiles in pixels; its square is the number of samples that are computed at once.
    """

    backend: "BlockBackend[Style]"
    config: GeneratorConfig
    pool: ThreadPoolExecutor
    threads: int
    density: int
    side: int

    def render(self, latent: Latent, viewport: Viewport, output: Output, progress: Progress | None) -> None:
        """Render an image's crop into ``output`` [h, w, 3]."""
        for tiles in _batches(
            warp_tiles(viewport, self.config.resolution, self.side, self.config.max_scale),
            TILES_PER_THREAD * self.threads,
        ):
            # Coordinates, then lines, then tiles: the pool starts tasks in this order, so a task only waits for
            # started ones.
            with TaskGroup(self.pool) as tasks:
                style = tasks.submit(0, self.backend.cached_style, latent)
                sampling = [tasks.submit(0, tile.sample, visible=self.backend.clip) for tile in tiles]
                requested: tuple[Pages, Pages] = {}, {}
                for tile, future in zip(tiles, sampling, strict=True):
                    samples = future.result()
                    for axis, pages in enumerate(requested):
                        for page in self._pages(samples, axis):
                            if page not in pages:
                                pages[page] = tasks.submit(0, self._page, latent, style, viewport, axis, page)
                    cost = tile.pixels * self.config.pixel_macs
                    tasks.submit(cost, self._render_tile, tile, samples, style, requested, output)
                for cost in tasks.completed():
                    if progress is not None:
                        progress(cost)

    def _pages(self, samples: Sequence[Samples], axis: int) -> list[int]:
        """The pages that samples need, in order."""
        pages: set[int] = set()
        for each in samples:
            first = first_lines(each.coordinates[..., axis], self.density)
            pages.update(np.unique(first // PAGE).tolist(), np.unique((first + 3) // PAGE).tolist())
        return sorted(pages)

    def _page(self, latent: Latent, style: Future[Style], viewport: Viewport, axis: int, page: int) -> Tensor:
        """Lines [bundles, PAGE, D, 32] of a page."""
        positions = np.arange(page * PAGE, (page + 1) * PAGE, dtype=np.float64) / self.density
        positions = viewport.line_coordinates(positions, COLUMNS - axis, self.config.resolution)
        return self.backend.cached_lines(
            ("lattice", latent, axis, positions.tobytes()),
            lambda: self.backend.seamless_lines(style.result(), positions, axis).permute(0, 2, 3, 1).contiguous(),
        )

    def _render_tile(
        self,
        tile: WarpTile,
        samples: Sequence[Samples],
        style: Future[Style],
        requested: tuple[Pages, Pages],
        output: Output,
    ) -> None:
        pages = [self._pages(samples, axis) for axis in (ROWS, COLUMNS)]
        tables = [
            torch.cat([own[page].result() for page in wanted], dim=1)
            for own, wanted in zip(requested, pages, strict=True)
        ]
        pixels = blank(self.side, output)
        for each in samples:
            colours = self._colours(style.result(), each.coordinates.reshape(-1, 2), pages, tables)
            put_blocks(each, average_samples(colours, each, deep=is_deep(output)), pixels)
        tile.place(pixels, output)

    def _colours(
        self, style: Style, coordinates: NDArray[np.float64], pages: Sequence[Sequence[int]], tables: Sequence[Tensor]
    ) -> Tensor:
        """Colours [P, 3] at network coordinates [P, 2], computed in equal parts unless the backend allows any."""
        count, step = len(coordinates), self.side**2
        if not self.backend.clip:
            coordinates = np.pad(coordinates, ((0, -count % step), (0, 0)), mode="edge")
        parts = []
        for start in range(0, len(coordinates), step):
            part = coordinates[start : start + step]
            rows, columns = (self._lattice(part[:, axis], pages[axis], tables[axis]) for axis in (ROWS, COLUMNS))
            parts.append(self.backend.warp_colours(style, rows, columns))
        return torch.cat(parts)[:count]

    def _lattice(self, coordinates: NDArray[np.float64], pages: Sequence[int], table: Tensor) -> Lattice:
        lines = first_lines(coordinates, self.density)[:, None] + np.arange(4)  # [P, 4]
        index = np.searchsorted(np.array(pages), lines // PAGE) * PAGE + lines % PAGE
        weights = spline_weights(coordinates, self.density)
        device = table.device
        return Lattice(table, torch.from_numpy(index.astype(np.int32)).to(device), torch.from_numpy(weights).to(device))


def average_samples(colours: Tensor, samples: Samples, *, deep: bool = False) -> Output:
    """Pixels [n, 16, 16, 3] of the colours [n·(16·m)², 3] of all samples of blocks."""
    m = samples.factor
    filled = torch.from_numpy(samples.filled.reshape(-1, 1)).to(colours.device)
    boxes = colours.masked_fill(filled, FILL).reshape(-1, BLOCK, m, BLOCK, m, RGB)
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
