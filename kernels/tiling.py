"""Division of an image into tiles and blocks, so that a pixel's bytes do not depend on the crop.

Tiles of output pixels and blocks of network positions begin at absolute indices of the whole image, and their shapes
depend on the supersampling alone. A pixel is therefore always computed by the same operations at the same place in
arrays of the same shape. Pixels of a tile outside the crop or the image are computed and dropped, except by backends
whose pixels do not depend on their place in an array: these clip tiles to the crop.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import GeneratorConfig
from model.generator import COLUMNS, ROWS
from model.latents.latent import Latent
from model.viewport import Viewport

BLOCKS_PER_THREAD = 64
"""Blocks per thread in one batch of work. At its end, threads wait for one another for at most one block."""

WIDE_BAND_PIXELS = 1 << 26
"""Positions in a band when an image is so wide that the lines of its columns do not all fit the cache."""

Output = NDArray[Any]
"""Pixels: 8-bit levels as uint8, or colours as float32, about −1 … 1."""


def is_deep(output: Output) -> bool:
    """Whether pixels are colours."""
    return output.dtype != np.uint8


@dataclass(frozen=True)
class Axis:
    """One axis of an image.

    Attributes:
        axis: ROWS or COLUMNS.
        resolution, max_scale: R, the training resolution, and the scale of the network's finest detail.
        side: maximum number of positions in a block.
        clip: whether tiles end at the crop.
    """

    viewport: Viewport
    axis: int
    resolution: int
    side: int
    clip: bool = False
    max_scale: float = 1.0

    @cached_property
    def factor(self) -> int:
        """m, network positions per output pixel (supersampling)."""
        horizontal, vertical = self.viewport.supersampling(self.resolution, self.max_scale)
        return horizontal if self.axis == COLUMNS else vertical

    @cached_property
    def crop(self) -> tuple[int, int]:
        """Start and end of the crop in output pixels."""
        x, y, w, h = self.viewport.crop
        return (x, x + w) if self.axis == COLUMNS else (y, y + h)

    @cached_property
    def tile(self) -> int:
        """Output pixels in a tile."""
        return max(1, self.side // self.factor)

    @cached_property
    def parts(self) -> int:
        """Blocks in a tile: 1, unless a pixel averages more than ``side`` positions."""
        return -(-self.factor // self.side)

    @cached_property
    def block(self) -> int:
        """Positions in a block."""
        return -(-self.tile * self.factor // self.parts)

    @cached_property
    def tiles(self) -> range:
        """Indices of the tiles that the crop touches; tile 0 begins at the start of the whole image."""
        start, stop = self.crop
        return range(start // self.tile, -(-stop // self.tile))

    def drawn(self, tile: int) -> range:
        """The pixels of a tile that are computed, counted from its first."""
        if not self.clip:
            return range(self.tile)
        first, (start, stop) = tile * self.tile, self.crop
        return range(max(0, start - first), min(self.tile, stop - first))

    def computed(self, tiles: range) -> int:
        """Positions that are computed for ``tiles``."""
        if self.clip and self.parts == 1:
            start, stop = self.visible(tiles)
            return (stop - start) * self.factor
        return len(tiles) * self.parts * self.block

    def used(self, part: int) -> int:
        """Positions of a tile's block ``part`` that belong to the tile; the last block may extend beyond it."""
        return min(self.block, self.tile * self.factor - part * self.block)

    def pieces(self, tiles: range) -> Iterator["Piece"]:
        """The visible positions of ``tiles``, block by block."""
        start, stop = ((edge + self.crop[0]) * self.factor for edge in self.visible(tiles))
        for tile, part in itertools.product(tiles, range(self.parts)):
            first = tile * self.tile * self.factor + part * self.block
            begin, end = max(first, start), min(first + self.used(part), stop)
            if begin < end:
                yield Piece(tile, part, begin - first, begin - start, end - begin)

    def inside(self, tile: int, part: int) -> int:
        """Positions of a tile's block ``part`` that belong to the tile and lie inside the whole image."""
        count = (self.viewport.width if self.axis == COLUMNS else self.viewport.height) * self.factor
        return min(self.used(part), count - (tile * self.tile * self.factor + part * self.block))

    def positions(self, tile: int, part: int) -> NDArray[np.float64]:
        """Network coordinates of one block of a tile: [block], or fewer of a clipped one."""
        start = tile * self.tile * self.factor + part * self.block
        stop = start + self.block
        if self.parts == 1:  # else the tile is one pixel
            drawn = self.drawn(tile)
            start, stop = start + drawn.start * self.factor, start + drawn.stop * self.factor
        locate = self.viewport.columns if self.axis == COLUMNS else self.viewport.rows
        return locate(start, stop, self.resolution, self.factor)

    def visible(self, tiles: range) -> tuple[int, int]:
        """Start and end of the pixels of ``tiles`` inside the crop, relative to the crop."""
        start, stop = self.crop
        return max(tiles.start * self.tile, start) - start, min(tiles.stop * self.tile, stop) - start

    def place(self, tile: int) -> tuple[slice, slice]:
        """A tile's visible pixels, as a slice of the crop and as a slice of the drawn ones."""
        start, stop = self.visible(range(tile, tile + 1))
        offset = start + self.crop[0] - tile * self.tile - self.drawn(tile).start
        return slice(start, stop), slice(offset, offset + stop - start)


@dataclass(frozen=True)
class Piece:
    """Visible positions of one block.

    Attributes:
        tile, part: the block.
        begin: first visible position, relative to the block.
        place: the same position, relative to the first visible position of all rendered tiles.
        length: number of visible positions.
    """

    tile: int
    part: int
    begin: int
    place: int
    length: int


@dataclass(frozen=True)
class Tiling:
    """The two axes of an image and the order of rendering: bands from top to bottom, panels from left to right.

    Attributes:
        band: height of a band in tiles.
        panel: width of a panel in tiles.
    """

    rows: Axis
    columns: Axis
    band: int
    panel: int

    @classmethod
    def plan(
        cls,
        viewport: Viewport,
        resolution: int,
        side: int,
        line_limit: int,
        threads: int,
        *,
        clip: bool = False,
        max_scale: float = 1.0,
    ) -> "Tiling":
        """Choose the lowest bands that keep ``threads`` busy, and panels whose lines fit the cache.

        Args:
            resolution, max_scale: R, the training resolution, and the scale of the network's finest detail.
            side: maximum number of positions along a block's side.
            line_limit: maximum number of positions along either axis whose lines may be kept.
            threads: number of blocks rendered at once.
            clip: whether tiles end at the crop.
        """
        rows, columns = (Axis(viewport, axis, resolution, side, clip, max_scale) for axis in (ROWS, COLUMNS))
        panel = max(1, line_limit // (columns.block * columns.parts))
        if len(columns.tiles) <= panel:
            band = -(-BLOCKS_PER_THREAD * threads // (rows.parts * columns.parts * len(columns.tiles)))
        else:  # Each band recomputes the lines of all columns, so bands are made high.
            band = WIDE_BAND_PIXELS // (rows.tile * rows.factor * viewport.crop[2] * columns.factor)
        return cls(rows, columns, max(1, min(band, line_limit // (rows.block * rows.parts))), panel)

    def macs(self, config: GeneratorConfig, rows: range) -> int:
        """Multiply-adds of a band: its rows' lines once per panel, the lines of all columns, and the pixels."""
        height, width = self.rows.computed(rows), self.columns.computed(self.columns.tiles)
        lines = height * sum(1 for _ in self.panels()) + width
        return lines * config.line_macs + height * width * config.pixel_macs

    def bands(self) -> Iterator[range]:
        """Ranges of tile rows."""
        return _split(self.rows.tiles, self.band)

    def panels(self) -> Iterator[range]:
        """Ranges of tile columns."""
        return _split(self.columns.tiles, self.panel)


def _split(tiles: range, size: int) -> Iterator[range]:
    for start in range(tiles.start, tiles.stop, size):
        yield range(start, min(start + size, tiles.stop))


@dataclass(frozen=True, eq=False)
class Band:
    """Consecutive rows of an image.

    Attributes:
        rows: tile rows of the band.
        output: array [h, w, 3] for the visible pixels.
    """

    latent: Latent
    tiling: Tiling
    rows: range
    output: Output


@dataclass(frozen=True, eq=False)
class Panel:
    """The tile columns of a band whose lines are kept together."""

    band: Band
    columns: range

    @property
    def positions(self) -> int:
        """Number of rows and columns whose lines are kept."""
        return self.band.tiling.rows.computed(self.band.rows) + self.band.tiling.columns.computed(self.columns)

    @property
    def blocks(self) -> int:
        tiling = self.band.tiling
        return len(self.band.rows) * tiling.rows.parts * len(self.columns) * tiling.columns.parts


def group_panels(bands: Iterable[Band], blocks: int, positions: int) -> Iterator[tuple[list[Panel], list[Band]]]:
    """Group panels for rendering together, each group with the bands that it completes.

    Args:
        bands: consumed lazily.
        blocks: a group is closed when it has this many blocks.
        positions: maximum number of positions in a group of several panels.
    """
    group: list[Panel] = []
    complete: list[Band] = []
    for band in bands:
        for columns in band.tiling.panels():
            panel = Panel(band, columns)
            if group and sum(p.positions for p in [*group, panel]) > positions:
                yield group, complete
                group, complete = [], []
            group.append(panel)
            if columns.stop == band.tiling.columns.tiles.stop:
                complete.append(band)
            if sum(p.blocks for p in group) >= blocks:
                yield group, complete
                group, complete = [], []
    if group:
        yield group, complete
