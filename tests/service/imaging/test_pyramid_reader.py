"""Reading a stored pyramid: which tile or level a request means, and that neither tiles nor bands show."""

import asyncio
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from service.iiif.info import info_json
from service.iiif.request import Limits
from service.imaging import pyramid_reader
from service.imaging.pyramid import Level, Pyramid
from service.imaging.pyramid_reader import edges_in, level_for, read_scaled, tile_of

SIDES = st.integers(1, 3000)


@given(width=SIDES, height=SIDES, tile=st.sampled_from((64, 256, 512)))
def test_every_tile_that_info_promises_is_a_stored_one(width: int, height: int, tile: int) -> None:
    pyramid = Pyramid(width, height, tile, 1)
    (tiles,) = info_json("http://host/iiif/3/a", width, height, tile, Limits(9999, 9999, 10**8))["tiles"]
    found = set()
    for factor in tiles["scaleFactors"]:
        for y in range(0, height, tile * factor):
            for x in range(0, width, tile * factor):
                w, h = min(tile * factor, width - x), min(tile * factor, height - y)
                index = tile_of(pyramid, (x, y, w, h), (-(-w // factor), -(-h // factor)))
                assert index is not None
                level, column, row = pyramid.locate(index)
                side = tile * 2 ** (len(pyramid.levels) - 1 - level)
                assert (column * side, row * side) == (x, y)
                assert side <= tile * factor  # less only where tiles of both levels end within their first pixels
                assert side == tile * factor or max(w, h) <= side
                found.add(index)
    assert found >= set(pyramid.scan(len(pyramid.levels) - 1))


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ((0, 0, 512, 512), (255, 256)),
        ((0, 0, 512, 511), (256, 256)),
        ((1, 0, 512, 512), (256, 256)),
        ((256, 0, 512, 512), (256, 256)),
        ((512, 0, 189, 512), (94, 256)),
    ],
)
def test_other_requests_mean_no_tile(box: tuple[int, int, int, int], sides: tuple[int, int]) -> None:
    assert tile_of(Pyramid(701, 601, 256, 1), box, sides) is None


def parts(width: int, height: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    def box(corners: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        x0, x1 = sorted(corners[:2])
        y0, y1 = sorted(corners[2:])
        return x0, y0, x1 - x0 + 1, y1 - y0 + 1

    across, down = st.integers(0, width - 1), st.integers(0, height - 1)
    return st.tuples(across, across, down, down).map(box)


@given(data=st.data(), width=SIDES, height=SIDES, w=st.integers(1, 4000), h=st.integers(1, 4000))
def test_little_more_is_read_than_is_sent(data: st.DataObject, width: int, height: int, w: int, h: int) -> None:
    pyramid = Pyramid(width, height, 64, 1)
    box = data.draw(parts(width, height))
    level = pyramid.levels[level_for(pyramid, box, (w, h))]
    left, top, right, bottom = edges_in(level, pyramid.levels[-1], box)
    assert 0 <= left < right <= level.width
    assert 0 <= top < bottom <= level.height
    assert (right - left) * (bottom - top) <= max(4 * w * h, 64**2) + 1e-6


@given(data=st.data(), width=SIDES, height=SIDES, factor=st.floats(0.01, 1))
def test_what_keeps_its_aspect_is_never_scaled_up(data: st.DataObject, width: int, height: int, factor: float) -> None:
    pyramid = Pyramid(width, height, 64, 1)
    box = data.draw(parts(width, height))
    sides = max(1, int(box[2] * factor)), max(1, int(box[3] * factor))
    number = level_for(pyramid, box, sides)
    left, top, right, bottom = edges_in(pyramid.levels[number], pyramid.levels[-1], box)
    if min(sides) > 8:  # else rounding alone distorts it
        assert right - left >= sides[0] - 1e-6
        assert bottom - top >= sides[1] - 1e-6
        if number:
            left, top, right, bottom = edges_in(pyramid.levels[number - 1], pyramid.levels[-1], box)
            assert right - left < sides[0] or bottom - top < sides[1]


def read(
    level: Level, image: NDArray[np.uint8], edges: pyramid_reader.Edges, sides: tuple[int, int]
) -> NDArray[np.uint8]:
    asked = []

    async def tile(column: int, row: int) -> bytes:
        asked.append((column, row))
        x, y, w, h = level.box(column, row)
        file = BytesIO()
        Image.fromarray(image[y : y + h, x : x + w]).save(file, "PNG")
        return file.getvalue()

    pixels = asyncio.run(read_scaled(level, tile, edges, sides))
    assert len(set(asked)) == len(asked)  # no tile is read twice
    return pixels


@given(data=st.data(), w=st.integers(1, 300), h=st.integers(1, 300), band=st.sampled_from((100, 3000, 10**6)))
def test_neither_tiles_nor_bands_show(data: st.DataObject, w: int, h: int, band: int) -> None:
    level = Level(data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300)), 64)
    image = np.random.default_rng(level.width).integers(0, 256, (level.height, level.width, 3), np.uint8)
    x0, y0, across, down = data.draw(parts(level.width, level.height))
    edges = (x0 + data.draw(st.floats(0, 0.5)), float(y0), x0 + across - data.draw(st.floats(0, 0.4)), float(y0 + down))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyramid_reader, "BAND_PIXELS", band)
        pixels = read(level, image, edges, (w, h))
    left, top, right, bottom = edges
    whole = Image.fromarray(image).resize((level.width, h), Image.Resampling.LANCZOS, (0, top, level.width, bottom))
    whole = whole.resize((w, h), Image.Resampling.LANCZOS, (left, 0, right, h))
    assert np.abs(pixels.astype(int) - np.asarray(whole)).max() <= 1


def test_pixel_for_pixel_nothing_is_filtered() -> None:
    level = Level(300, 200, 64)
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert np.array_equal(read(level, image, (10, 20, 250, 190), (240, 170)), image[20:190, 10:250])
