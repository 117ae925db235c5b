"""A picture at many sizes, each cut into tiles: the geometry of Deep Zoom, of tiled TIFFs and of their jobs."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

STRIP_TILES = 32
"""Tiles in the width of a strip. A level is drawn strip by strip, each from top to bottom: the lines of a strip's
columns stay in a renderer's cache, and those of a row of tiles are drawn once a strip. 32 tiles of 512 are 16,384
columns, whose lines take 117 MB in the paper's 512 network."""

Box = tuple[int, int, int, int]
"""x, y, w, h in pixels."""


@dataclass(frozen=True)
class Level:
    """A picture of ``width`` × ``height`` pixels in square tiles of side ``tile``, smaller at its far edges."""

    width: int
    height: int
    tile: int

    @property
    def columns(self) -> int:
        """Tiles in its width."""
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        """Tiles in its height."""
        return -(-self.height // self.tile)

    @property
    def tiles(self) -> int:
        return self.columns * self.rows

    def box(self, column: int, row: int) -> Box:
        """The pixels of a tile."""
        x, y = column * self.tile, row * self.tile
        return x, y, min(self.tile, self.width - x), min(self.tile, self.height - y)

    def at(self, place: int) -> tuple[int, int]:
        """(column, row) of the tile that is drawn after ``place`` others."""
        strip, inside = divmod(place, STRIP_TILES * self.rows)
        first = strip * STRIP_TILES
        row, column = divmod(inside, min(STRIP_TILES, self.columns - first))
        return first + column, row

    def place(self, column: int, row: int) -> int:
        """The inverse of :meth:`at`."""
        first = column - column % STRIP_TILES
        return first * self.rows + row * min(STRIP_TILES, self.columns - first) + column - first


@dataclass(frozen=True)
class Pyramid:
    """The sizes of a picture: each level has half the sides of the next, rounded up.

    Attributes:
        width, height: of the last level, the picture itself.
        tile: side of a tile in pixels, in every level.
        smallest: a level whose sides are no longer than this is the first.
    """

    width: int
    height: int
    tile: int
    smallest: int

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """From the smallest to the picture itself."""
        sizes = [(self.width, self.height)]
        while max(sizes[-1]) > self.smallest:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        return tuple(Level(width, height, self.tile) for width, height in reversed(sizes))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The number of tiles before each level, and of all tiles at the end."""
        return tuple(itertools.accumulate((level.tiles for level in self.levels), initial=0))

    @property
    def tiles(self) -> int:
        """Tiles of all levels."""
        return self.starts[-1]

    @property
    def pixels(self) -> int:
        """Pixels of all levels."""
        return sum(level.width * level.height for level in self.levels)

    def locate(self, index: int) -> tuple[int, int, int]:
        """(level, column, row) of the tile that is drawn after ``index`` others: small levels come first.

        Raises:
            IndexError: there is no such tile.
        """
        if not 0 <= index < self.tiles:
            raise IndexError(f"a tile's index must be from 0 to {self.tiles - 1}, not {index}")
        level = next(level for level, end in enumerate(self.starts[1:]) if index < end)
        return level, *self.levels[level].at(index - self.starts[level])

    def index(self, level: int, column: int, row: int) -> int:
        """The inverse of :meth:`locate`."""
        return self.starts[level] + self.levels[level].place(column, row)

    def scan(self, level: int) -> Iterator[int]:
        """The indices of a level's tiles in reading order: row by row, from left to right."""
        size = self.levels[level]
        for row, column in itertools.product(range(size.rows), range(size.columns)):
            yield self.index(level, column, row)
