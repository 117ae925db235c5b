"""Rotation by any angle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.viewport import Viewport
from service.iiif.request import BadSyntaxError, Rotation
from service.iiif.turn import paint_background, turned_sides, turned_viewport

sides = st.integers(1, 2000)


@given(sides, sides, st.floats(0, 360))
def test_a_turned_image_is_as_large_as_it_must_be(width: int, height: int, degrees: float) -> None:
    w, h = turned_sides((width, height), degrees)
    assert w <= np.hypot(width, height) + 1
    assert h <= np.hypot(width, height) + 1
    assert w * h >= width * height - 1


def test_quarter_turns_exchange_the_sides() -> None:
    assert [turned_sides((30, 20), degrees) for degrees in (0, 90, 180, 270)] == [(30, 20), (20, 30)] * 2
    assert turned_sides((100, 100), 45) == (142, 142)


def test_the_corners_are_white() -> None:
    pixels = np.full((142, 142, 3), 50, np.uint8)
    painted = paint_background(pixels, (100, 100), 45)
    assert (painted[0, 0] == 255).all()
    assert (painted[71, 71] == 50).all()
    assert (painted == 50).all(axis=2).sum() == pytest.approx(100 * 100, rel=0.03)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_middle_stays_where_it_is(mirrored: bool) -> None:
    upright = Viewport.resolve(1000, 1000, crop=(100, 200, 60, 40))
    turned = turned_viewport(upright, Rotation(30, mirrored))
    assert (turned.width, turned.height) == turned_sides((60, 40), 30)
    x0, y0, x1, y1 = turned.region
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((0.13, 0.22))
    assert (x1 - x0) / turned.width == pytest.approx(1 / 1000)


def test_an_image_that_is_stretched_too_far() -> None:
    with pytest.raises(BadSyntaxError, match="rotation"):
        turned_viewport(Viewport.resolve(1000, 1, (0, 0, 1, 1)), Rotation(89, False))
