"""Reading a region of a stored tile pyramid at any size, in bounded memory."""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Mapping
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.imaging.pyramid import Box, Level, Pyramid, Sides

Edges = tuple[float, float, float, float]
"""left, top, right, bottom in pixels of a level."""

Place = tuple[int, int]
"""Column and row of a tile."""

BAND_PIXELS = 2**21
"""Approximate size of the bands that an image is scaled in. At most four times as many pixels are read for a band,
which takes some 50 MB; an image of 4096² in one piece took 570 MB."""

_READ_AT_ONCE = 8

_SUPPORT = 3
"""Radius of the Lanczos filter in pixels of the coarser of the two images."""


def tile_of(pyramid: Pyramid, box: Box, sides: Sides) -> int | None:
    """The index of the stored tile that a request asks for, with box and size as ``tiles`` of info.json define them:
    each level has exactly half the scale of the next. None if there is no such tile.

    Sides of stored levels are rounded up, so they are up to a pixel longer than that; Deep Zoom and IIIF viewers place
    the tiles alike. At the right and bottom edges tiles of several levels may match: the finest is returned.
    """
    image = pyramid.levels[-1]
    for number, level in reversed(tuple(enumerate(pyramid.levels))):
        covered = Level(image.width, image.height, pyramid.tile << (len(pyramid.levels) - 1 - number))
        column, row = box[0] // covered.tile, box[1] // covered.tile
        if covered.box(column, row) == box and level.box(column, row)[2:] == sides:
            return pyramid.index(number, column, row)
    return None


def level_for(pyramid: Pyramid, box: Box, sides: Sides) -> int:
    """The smallest level that shows the box in at least ``sides`` pixels.

    A coarser one if that level would need more than four times the pixels of the result, which happens if the aspect
    changes. The pixels of one tile may always be read.
    """
    image, most = pyramid.levels[-1], max(4 * sides[0] * sides[1], pyramid.tile**2)
    chosen = 0
    for number, level in enumerate(pyramid.levels):
        width, height = box[2] * level.width / image.width, box[3] * level.height / image.height
        if width * height > most:
            break
        chosen = number
        if width >= sides[0] and height >= sides[1]:
            break
    return chosen


def edges_in(level: Level, image: Level, box: Box) -> Edges:
    """The edges of a box of the image in one of its levels."""
    x, y, w, h = box
    across, down = level.width / image.width, level.height / image.height
    return x * across, y * down, min((x + w) * across, level.width), min((y + h) * down, level.height)


async def read_scaled(
    level: Level, read: Callable[[int, int], Awaitable[bytes]], edges: Edges, sides: Sides
) -> NDArray[np.uint8]:
    """Pixels [h, w, 3] of a part of a level, scaled to ``sides`` with a Lanczos filter.

    They equal those of the whole level scaled at once: neither bands nor tile edges are visible. ``read`` returns the
    file of the tile at (column, row).
    """
    left, top, right, bottom = edges
    width, height = sides
    scales = (right - left) / width, (bottom - top) / height
    rows = max(1, BAND_PIXELS // width)
    pixels = np.empty((height, width, 3), np.uint8)
    tiles: dict[Place, Image.Image] = {}
    for first in range(0, height, rows):
        last = min(first + rows, height)
        band = left, top + first * scales[1], right, min(top + last * scales[1], bottom)
        bounds = _bounds(level, band, scales)
        tiles = await _tiles(level, read, bounds, tiles)
        pixels[first:last] = await asyncio.to_thread(_scale, level, tiles, bounds, band, (width, last - first))
    return pixels


def _bounds(level: Level, band: Edges, scales: tuple[float, float]) -> tuple[int, int, int, int]:
    """Integer bounds of a band, including the radius of the filter: left, top, right, bottom."""
    across, down = (_SUPPORT * max(1.0, scale) for scale in scales)
    left, top, right, bottom = band
    return (
        max(0, math.floor(left - across)),
        max(0, math.floor(top - down)),
        min(level.width, math.ceil(right + across)),
        min(level.height, math.ceil(bottom + down)),
    )


async def _tiles(
    level: Level,
    read: Callable[[int, int], Awaitable[bytes]],
    bounds: tuple[int, int, int, int],
    known: Mapping[Place, Image.Image],
) -> dict[Place, Image.Image]:
    """The decoded tiles within the bounds, reusing those of the previous band."""
    left, top, right, bottom = bounds
    columns = range(left // level.tile, -(-right // level.tile))
    places = list(itertools.product(columns, range(top // level.tile, -(-bottom // level.tile))))
    slots = asyncio.Semaphore(_READ_AT_ONCE)

    async def fetch(place: Place) -> Image.Image:
        async with slots:
            return await asyncio.to_thread(_decode, await read(*place))

    new = [place for place in places if place not in known]
    fetched = await asyncio.gather(*(fetch(place) for place in new))
    return {place: known[place] for place in places if place in known} | dict(zip(new, fetched, strict=True))


def _decode(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content)).convert("RGB")


def _scale(
    level: Level,
    tiles: Mapping[Place, Image.Image],
    bounds: tuple[int, int, int, int],
    band: Edges,
    sides: Sides,
) -> NDArray[np.uint8]:
    x, y = bounds[:2]
    canvas = Image.new("RGB", (bounds[2] - x, bounds[3] - y))
    for (column, row), tile in tiles.items():
        canvas.paste(tile, (column * level.tile - x, row * level.tile - y))
    left, top, right, bottom = band[0] - x, band[1] - y, band[2] - x, band[3] - y
    # One axis at a time: Pillow would choose the order for each band, and intermediate values are clipped to 8 bits.
    canvas = canvas.resize((canvas.width, sides[1]), Image.Resampling.LANCZOS, (0, top, canvas.width, bottom))
    return np.asarray(canvas.resize(sides, Image.Resampling.LANCZOS, (left, 0, right, canvas.height)))
