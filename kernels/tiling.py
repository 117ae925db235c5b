"""How a picture is cut into tiles and blocks of fixed shape, so that a pixel's bytes do not depend on what is drawn.

Tiles of output pixels and blocks of network positions begin at absolute indices of the whole picture, and their shapes
follow from the supersampling alone. A pixel is therefore always computed by the same operations at the same place of
the same shapes, whatever the crop. Pixels of a tile beyond the crop, or the picture's edge, are computed and dropped.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.config import GeneratorConfig
from model.generator import COLUMNS, ROWS
from model.viewport import Viewport

BLOCKS_PER_THREAD = 64
"""Blocks drawn in one go for each thread: at the end threads wait for one another no longer than one block takes."""

WIDE_BAND_PIXELS = 1 << 26
"""Positions in a band where the lines of a very wide picture's columns cannot all be held."""


@dataclass(frozen=True)
class Axis:
    """One axis of a picture.

    Attributes:
        viewport: the picture.
        axis: ROWS or COLUMNS.
        resolution: R, the training resolution.
        side: the largest number of positions in a block.
    """

    viewport: Viewport
    axis: int
    resolution: int
    side: int

    @cached_property
    def factor(self) -> int:
        """m, positions for each output pixel (supersampling)."""
        horizontal, vertical = self.viewport.supersampling(self.resolution)
        return horizontal if self.axis == COLUMNS else vertical

    @cached_property
    def crop(self) -> tuple[int, int]:
        """First output pixel drawn and the one after the last."""
        x, y, w, h = self.viewport.crop
        return (x, x + w) if self.axis == COLUMNS else (y, y + h)

    @cached_property
    def tile(self) -> int:
        """Output pixels in a tile."""
        return max(1, self.side // self.factor)

    @cached_property
    def parts(self) -> int:
        """Blocks in a tile: one, but for pixels that average more than ``side`` positions."""
        return -(-self.factor // self.side)

    @cached_property
    def block(self) -> int:
        """Positions in a block."""
        return -(-self.tile * self.factor // self.parts)

    @cached_property
    def tiles(self) -> range:
        """The tiles that the crop touches, counted from the start of the whole picture."""
        start, stop = self.crop
        return range(start // self.tile, -(-stop // self.tile))

    def used(self, part: int) -> int:
        """How many positions of a tile's block ``part`` belong to the tile. The last block may reach beyond it."""
        return min(self.block, self.tile * self.factor - part * self.block)

    def pieces(self, tiles: range) -> Iterator["Piece"]:
        """Where the visible positions of ``tiles`` lie, block by block."""
        start, stop = ((edge + self.crop[0]) * self.factor for edge in self.visible(tiles))
        for tile, part in itertools.product(tiles, range(self.parts)):
            first = tile * self.tile * self.factor + part * self.block
            begin, end = max(first, start), min(first + self.used(part), stop)
            if begin < end:
                yield Piece(tile, part, begin - first, begin - start, end - begin)

    def inside(self, tile: int, part: int) -> int:
        """How many positions of a tile's block ``part`` belong to the tile and lie inside the whole picture."""
        count = (self.viewport.width if self.axis == COLUMNS else self.viewport.height) * self.factor
        return min(self.used(part), count - (tile * self.tile * self.factor + part * self.block))

    def positions(self, tile: int, part: int) -> NDArray[np.float64]:
        """Network coordinates [block] of one block of a tile."""
        start = tile * self.tile * self.factor + part * self.block
        locate = self.viewport.columns if self.axis == COLUMNS else self.viewport.rows
        return locate(start, start + self.block, self.resolution, self.factor)

    def visible(self, tiles: range) -> tuple[int, int]:
        """The first pixel of ``tiles`` inside the crop and the one after the last, counted from the crop's start."""
        start, stop = self.crop
        return max(tiles.start * self.tile, start) - start, min(tiles.stop * self.tile, stop) - start

    def place(self, tile: int) -> tuple[slice, slice]:
        """Where a tile's visible pixels lie in the crop, and where in the tile."""
        start, stop = self.visible(range(tile, tile + 1))
        inside = start + self.crop[0] - tile * self.tile
        return slice(start, stop), slice(inside, inside + stop - start)


@dataclass(frozen=True)
class Piece:
    """Visible positions of one block.

    Attributes:
        tile, part: the block.
        begin: the first of them, counted from the block's.
        place: the same, counted from the first visible position of all tiles that are drawn.
        length: how many they are.
    """

    tile: int
    part: int
    begin: int
    place: int
    length: int


@dataclass(frozen=True)
class Tiling:
    """A picture's two axes and the order in which it is drawn: bands from top to bottom, panels from left to right.

    Attributes:
        rows, columns: the axes.
        band: tiles in the height of a band.
        panel: tiles in the width of a panel.
    """

    rows: Axis
    columns: Axis
    band: int
    panel: int

    @classmethod
    def plan(cls, viewport: Viewport, resolution: int, side: int, line_limit: int, threads: int) -> "Tiling":
        """Bands that keep ``threads`` busy, no higher than that, and panels whose lines can be held.

        Args:
            viewport: the picture.
            resolution: R, the training resolution.
            side: the largest number of positions along a block's side.
            line_limit: positions along either axis whose lines may be held.
            threads: how many blocks are drawn at once.
        """
        rows, columns = Axis(viewport, ROWS, resolution, side), Axis(viewport, COLUMNS, resolution, side)
        panel = max(1, line_limit // (columns.block * columns.parts))
        if len(columns.tiles) <= panel:
            band = -(-BLOCKS_PER_THREAD * threads // (rows.parts * columns.parts * len(columns.tiles)))
        else:  # Each band computes all columns' lines anew: make that seldom.
            band = WIDE_BAND_PIXELS // (rows.tile * rows.factor * viewport.crop[2] * columns.factor)
        return cls(rows, columns, max(1, min(band, line_limit // (rows.block * rows.parts))), panel)

    def macs(self, config: GeneratorConfig, rows: range) -> int:
        """Multiply-adds of a band: the lines of its rows once for every panel, those of all columns, and the pixels."""
        height = len(rows) * self.rows.parts * self.rows.block
        width = len(self.columns.tiles) * self.columns.parts * self.columns.block
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
