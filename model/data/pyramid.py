"""Square images in a data set: in one file, or at several sizes cut into tiles.

An image of a data set that keeps sizes has levels, each half as large as the one before, down to one of a single tile.
A patch is read from the smallest level that is large enough, and only from the tiles that it touches: the cost does
not depend on the image's size. Levels and patches are averages over areas.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""[h, w, 3]."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""

TILE = 256
"""Side of the tiles of images that keep their size: a patch touches few of them, and a small image is one."""


class Patch(NamedTuple):
    """R×R pixels of an image that is resized to side × side, with the upper left corner at (x, y)."""

    side: int
    x: int
    y: int


class Tile(NamedTuple):
    """A part of a level: its file, and its place and size in the level's pixels."""

    name: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class StoredImage:
    """A square image of a data set.

    Attributes:
        name: file of the smallest level.
        side: width and height in pixels.
        tile: side of the tiles; ``side`` for an image in one file.
    """

    name: str
    side: int
    tile: int

    @cached_property
    def levels(self) -> list[int]:
        """Sides of the levels, the image's own first: S, ⌈S/2⌉, … down to at most ``tile``."""
        sides = [self.side]
        while sides[-1] > self.tile:
            sides.append(-(-sides[-1] // 2))
        return sides

    def tiles(self, level: int, box: Box | None = None) -> Iterator[Tile]:
        """The tiles of a level that touch a box of its pixels, by default all of them."""
        side, step = self.levels[level], self.tile
        left, top, right, bottom = box or (0, 0, side, side)
        for row in range(top // step, -(-bottom // step)):
            for column in range(left // step, -(-right // step)):
                x, y = column * step, row * step
                name = self.name if side <= step else f"{self._folder}/{side}/{row}-{column}.png"
                yield Tile(name, x, y, min(step, side - x), min(step, side - y))

    def read(self, patch: Patch, size: int, decode: Callable[[Tile], Pixels]) -> Pixels:
        """A patch of ``size`` pixels a side, [size, size, 3]. The patch's image is at most as large as this one."""
        # The smallest level that has as many pixels as the patch.
        level = min(max(0, (self.side // patch.side).bit_length() - 1), len(self.levels) - 1)
        scale = self.side / (1 << level) / patch.side  # pixels of the level per pixel of the patch, at least 1
        edges = [(start + np.arange(size + 1)) * scale for start in (patch.x, patch.y)]
        left, top = (int(axis[0]) for axis in edges)
        right, bottom = (min(int(np.ceil(axis[-1] - 1e-6)), self.levels[level]) for axis in edges)
        region = np.empty((bottom - top, right - left, 3), np.uint8)
        for tile in self.tiles(level, (left, top, right, bottom)):
            x, y = max(tile.x, left), max(tile.y, top)
            part = decode(tile)[y - tile.y : bottom - tile.y, x - tile.x : right - tile.x]
            region[y - top : y - top + part.shape[0], x - left : x - left + part.shape[1]] = part
        if scale == 1:
            return region
        if scale.is_integer():  # as of whole images, which would else take as long as the step of a small network
            return np.rint(average_blocks(region, int(scale))).astype(np.uint8)
        averaged = average_areas(average_areas(region, edges[1] - top, axis=0), edges[0] - left, axis=1)
        return np.rint(averaged).astype(np.uint8)

    @property
    def _folder(self) -> str:
        return self.name.rpartition(".")[0]


def average_areas(pixels: NDArray[np.generic], edges: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    """Means of pixels over the intervals between consecutive edges along an axis; pixel i covers i … i + 1."""
    values = np.moveaxis(pixels, axis, 0).astype(np.float64)
    sums = np.concatenate([np.zeros_like(values[:1]), values.cumsum(axis=0)])
    edges = edges.clip(0, len(values))
    whole = np.minimum(edges.astype(np.int64), len(values) - 1)
    fraction = (edges - whole).reshape(-1, *[1] * (values.ndim - 1))
    integral = sums[whole] + fraction * values[whole]  # from 0 to each edge
    widths = np.diff(edges).reshape(-1, *[1] * (values.ndim - 1))
    return np.moveaxis(np.diff(integral, axis=0) / widths, 0, axis)


def average_blocks(pixels: Pixels, factor: int) -> NDArray[np.float64]:
    """Means of blocks of factor × factor pixels: [h, w, 3] → [h / factor, w / factor, 3]."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    rows = pixels.reshape(height, factor, -1).sum(axis=1, dtype=np.uint32)  # [h / factor, w·3]
    means: NDArray[np.float64] = rows.reshape(height, width, factor, 3).sum(axis=2) / factor**2
    return means


def describe_sizes(sides: Collection[int]) -> str:
    """The sizes of square images: "64²", or "64² to 1024²"."""
    smallest, largest = min(sides), max(sides)
    return f"{smallest}²" if smallest == largest else f"{smallest}² to {largest}²"


def cut_levels(image: Image.Image) -> Iterator[tuple[Tile, Image.Image]]:
    """The tiles of a square image's levels, with names relative to an image called ".png"."""
    stored = StoredImage(".png", image.width, TILE)
    for level in range(len(stored.levels)):
        if level:
            image = image.reduce(2)  # sides are rounded up: a last column alone is not averaged
        for tile in stored.tiles(level):
            yield tile, image.crop((tile.x, tile.y, tile.x + tile.width, tile.y + tile.height))
