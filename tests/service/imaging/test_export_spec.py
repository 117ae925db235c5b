"""Orders: their text, their limits, and the tiles that they are cut into."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.renderer import Renderer
from model.errors import InputError
from model.spec import Encoding, Latent, RenderSpec
from model.viewport import Crop, Grid, Viewport
from service.outputs.order import FORMATS_OF, KINDS, TILE_BOUNDS, TILE_STEP, Order
from tests.kernels.networks import random_checkpoint
from tests.model.test_viewport import latents, viewports
from tests.service.outputs.drawn import level_spec, make_order


@st.composite
def orders(draw: st.DrawFn, largest: int = 5000) -> Order:
    kind = draw(st.sampled_from(KINDS))
    encoding = Encoding(draw(st.sampled_from(FORMATS_OF[kind])), draw(st.integers(1, 100)))
    low, high = TILE_BOUNDS
    tile = draw(st.integers(low // TILE_STEP, high // TILE_STEP)) * TILE_STEP
    return Order(RenderSpec(draw(st.text()), draw(latents), draw(viewports(largest)), encoding), kind, tile)


@given(orders())
def test_an_order_survives_its_text(order: Order) -> None:
    text = order.to_json()
    again = Order.from_json(text)
    assert again == order
    assert again.to_json() == text
    assert Order.from_json(text.encode()) == order


@given(orders(), orders())
def test_texts_are_equal_exactly_where_orders_are(one: Order, other: Order) -> None:
    assert (one.to_json() == other.to_json()) == (one == other)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "dzi", "tile": 64, "spec": {}}'])
def test_text_that_is_no_order(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Order.from_json(text)


@pytest.mark.parametrize(
    ("changed", "field", "limit"),
    [
        ({"tile": 48}, "tile", "64 to 2048"),
        ({"tile": 2064}, "tile", "64 to 2048"),
        ({"tile": 100}, "tile", "multiple of 16"),
        ({"tile": 0}, "tile", "64 to 2048"),
        ({"tile": -64}, "tile", "64 to 2048"),
        ({"kind": "gif"}, "output", "dzi, tiff, png"),
        ({"kind": "tiff", "image_format": "webp"}, "format", "png or jpeg"),
        ({"kind": "png", "image_format": "jpeg"}, "format", "must be png"),
        ({"kind": "png", "image_format": "webp"}, "format", "must be png"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(changed: dict[str, Any], field: str, limit: str) -> None:
    with pytest.raises(InputError, match=limit) as caught:
        make_order(**{"kind": "dzi", **changed})
    assert caught.value.field == field


@given(orders(), st.data())
def test_tiles_of_the_last_level_are_crops_of_the_picture(order: Order, data: st.DataObject) -> None:
    """Only the crop differs, so that the renderer gives them the picture's own pixels."""
    viewport = order.spec.viewport
    first = order.pyramid.starts[-2]
    index = data.draw(st.integers(first, order.pyramid.tiles - 1))
    tile = order.tile_spec(index)
    x, y, w, h = order.tile_box(index)
    left, top, width, height = viewport.crop
    assert tile.viewport.crop == (left + x, top + y, w, h)
    assert x + w <= width
    assert y + h <= height
    rest = (viewport.width, viewport.height, viewport.region, viewport.grid)
    assert (tile.viewport.width, tile.viewport.height, tile.viewport.region, tile.viewport.grid) == rest
    assert (tile.model, tile.latent, tile.encoding) == (order.spec.model, order.spec.latent, order.spec.encoding)


@given(orders(), st.data())
def test_tiles_of_smaller_levels_show_the_same_part_of_the_plane(order: Order, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, len(order.pyramid.levels) - 1))
    spec = level_spec(order, level)
    assert spec.viewport.crop_region == pytest.approx(order.spec.viewport.crop_region, abs=1e-12)
    assert spec.viewport.crop[2:] == (order.pyramid.levels[level].width, order.pyramid.levels[level].height)


@pytest.mark.parametrize("crop", [None, (41, 13, 203, 150)])
@pytest.mark.parametrize("grid", ["centers", "corners"])
def test_tiles_are_the_pixels_of_the_whole(
    crop: Crop | None, grid: Grid, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Drawn by the real renderer; the levels are pictures of the crop alone."""
    renderer = Renderer(random_checkpoint(tmp_path_factory.mktemp("model")), "cpu")
    spec = RenderSpec("random", Latent(seed=3), Viewport.resolve(300, 170, crop=crop, grid=grid))
    order = Order(spec, "dzi", 64)
    for level, size in enumerate(order.pyramid.levels):
        stitched = np.zeros((size.height, size.width, 3), np.uint8)
        for index in order.pyramid.scan(level):
            x, y, w, h = order.tile_box(index)
            stitched[y : y + h, x : x + w] = renderer.render(order.tile_spec(index))
        last = level == len(order.pyramid.levels) - 1
        assert np.array_equal(stitched, renderer.render(spec if last else level_spec(order, level)))


def test_names_are_those_that_viewers_ask_for() -> None:
    order = make_order("dzi", image_format="jpeg")
    assert order.pyramid.levels[9].columns == 5
    assert order.tile_name(order.pyramid.index(9, 4, 2)) == "picture_files/9/4_2.jpg"
    assert order.name == "picture.dzi"
    names = [order.tile_name(index) for index in range(order.pyramid.tiles)]
    assert len(set(names)) == len(names)
    assert make_order("tiff").tile_name(0) == "tiles/0/0_0.png"
    assert make_order("png").name == "picture.png"


@given(orders(), st.data())
def test_a_name_tells_its_tile(order: Order, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, order.pyramid.tiles - 1))
    assert order.tile_index(order.tile_name(index)) == index


@pytest.mark.parametrize(
    "name",
    ["", "tiles/3/5_0.png", "tiles/3/0_3.png", "tiles/4/0_0.png", "tiles/0/0_0.jpg", "tiles/0/0_0.png#1", "job.json"],
)
def test_other_names_are_those_of_no_tile(name: str) -> None:
    order = make_order("tiff")
    assert order.tile_index("tiles/3/4_2.png") == order.pyramid.tiles - 1
    assert order.tile_index(name) is None
