"""Tile pyramids: the geometry of Deep Zoom, of tiled TIFFs and of their jobs."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

STRIP_TILES = 32
"""Width of a strip in tiles. A level is rendered strip by strip, each from top to bottom: the lines of a strip's
columns stay in the renderer's cache, and those of a row of tiles are computed once a strip. 32 tiles of 512 are 16,384
columns, whose lines take 117 MB in the paper's 512 network."""

Box = tuple[int, int, int, int]
"""x, y, w, h in pixels."""

Sides = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Level:
    """An image in square tiles of side ``tile``, which are smaller at its right and bottom edges."""

    width: int
    height: int
    tile: int

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.width // self.tile)

    @property
    def rows(self) -> int:
        """Tiles in a column."""
        return -(-self.height // self.tile)

    @property
    def tiles(self) -> int:
        return self.columns * self.rows

    def box(self, column: int, row: int) -> Box:
        """Position and size of a tile."""
        x, y = column * self.tile, row * self.tile
        return x, y, min(self.tile, self.width - x), min(self.tile, self.height - y)

    def at(self, place: int) -> tuple[int, int]:
        """(column, row) of the tile that is rendered after ``place`` others."""
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
    """The levels of an image: each has half the sides of the next, rounded up. The last is the image itself.

    The first is the largest whose sides are at most ``smallest``.
    """

    width: int
    height: int
    tile: int
    smallest: int

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """From the smallest to the image itself."""
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
        """(level, column, row) of the tile with that index in rendering order, which begins with the smallest level.
        Raises IndexError if there is no such tile."""
        if not 0 <= index < self.tiles:
            raise IndexError(f"a tile's index must be from 0 to {self.tiles - 1}, not {index}")
        level = next(level for level, end in enumerate(self.starts[1:]) if index < end)
        return level, *self.levels[level].at(index - self.starts[level])

    def index(self, level: int, column: int, row: int) -> int:
        """The inverse of :meth:`locate`."""
        return self.starts[level] + self.levels[level].place(column, row)

    def scan(self, level: int) -> Iterator[int]:
        """The indices of a level's tiles in reading order."""
        size = self.levels[level]
        for row, column in itertools.product(range(size.rows), range(size.columns)):
            yield self.index(level, column, row)
