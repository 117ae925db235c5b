"""Levels and tiles, by properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.viewport import MAX_SIDE
from service.imaging.pyramid import STRIP_TILES, Level, Pyramid

tiles = st.sampled_from([1, 2, 3, 16, 64, 512])


@st.composite
def pyramids(draw: st.DrawFn) -> Pyramid:
    """Few tiles or a few thousand, often wider than a strip."""
    tile = draw(tiles)
    width = draw(st.integers(1, tile * 3 * STRIP_TILES))
    height = draw(st.integers(1, tile * 12))
    return Pyramid(width, height, tile, draw(st.sampled_from([1, tile, max(width, height)])))


@given(pyramids())
def test_every_index_has_its_tile_and_every_tile_its_index(pyramid: Pyramid) -> None:
    found = [pyramid.locate(index) for index in range(pyramid.tiles)]
    assert [pyramid.index(*place) for place in found] == list(range(pyramid.tiles))
    assert set(found) == {
        (number, column, row)
        for number, level in enumerate(pyramid.levels)
        for column in range(level.columns)
        for row in range(level.rows)
    }
    assert [level for level, _, _ in found] == sorted(level for level, _, _ in found)


@given(st.integers(1, MAX_SIDE), st.integers(1, MAX_SIDE), tiles, st.data())
def test_indices_of_the_largest_images(width: int, height: int, tile: int, data: st.DataObject) -> None:
    pyramid = Pyramid(width, height, tile, 1)
    index = data.draw(st.integers(0, pyramid.tiles - 1))
    level, column, row = pyramid.locate(index)
    assert pyramid.index(level, column, row) == index
    assert 0 <= column < pyramid.levels[level].columns
    assert 0 <= row < pyramid.levels[level].rows


@given(pyramids())
def test_a_scan_reads_every_tile_of_a_level_once(pyramid: Pyramid) -> None:
    for number, level in enumerate(pyramid.levels):
        places = [pyramid.locate(index) for index in pyramid.scan(number)]
        assert places == [(number, column, row) for row in range(level.rows) for column in range(level.columns)]


@given(pyramids())
def test_strips_are_drawn_from_top_to_bottom(pyramid: Pyramid) -> None:
    """A strip is left only when it is complete, and inside it rows only when they are."""
    places = [pyramid.locate(index) for index in range(pyramid.tiles)]
    export = [(level, column // STRIP_TILES, row, column) for level, column, row in places]
    assert export == sorted(export)


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 70))
def test_boxes_partition_a_level(width: int, height: int, tile: int) -> None:
    level = Level(width, height, tile)
    covered = np.zeros((height, width), int)
    for row in range(level.rows):
        for column in range(level.columns):
            x, y, w, h = level.box(column, row)
            assert 1 <= w <= tile
            assert 1 <= h <= tile
            assert x + w <= width
            assert y + h <= height
            covered[y : y + h, x : x + w] += 1
    assert (covered == 1).all()
    assert level.tiles == level.rows * level.columns


@given(st.integers(1, MAX_SIDE), st.integers(1, MAX_SIDE), tiles, st.integers(1, 3000))
def test_levels_halve_rounding_up(width: int, height: int, tile: int, smallest: int) -> None:
    levels = Pyramid(width, height, tile, smallest).levels
    assert (levels[-1].width, levels[-1].height) == (width, height)
    for small, large in itertools.pairwise(levels):
        assert (small.width, small.height) == ((large.width + 1) // 2, (large.height + 1) // 2)
        assert max(large.width, large.height) > smallest
    assert max(levels[0].width, levels[0].height) <= smallest or len(levels) == 1 == max(width, height)
    assert all(level.tile == tile for level in levels)


def test_deep_zoom_has_as_many_levels_as_viewers_expect() -> None:
    """⌈log2 of the longer side⌉ + 1, as the format says; viewers compute the levels' numbers themselves."""
    sizes = [(1, 1), (2, 1), (3, 2), (512, 512), (513, 4), (65_536, 10)]
    assert [len(Pyramid(*size, 512, 1).levels) for size in sizes] == [1, 2, 3, 10, 11, 17]


@pytest.mark.parametrize("index", [-1, 5])
def test_tiles_that_are_not_there(index: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 4"):
        Pyramid(100, 100, 64, 64).locate(index)
