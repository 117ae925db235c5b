"""Orders: their text, their limits, and the tiles that they are cut into."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.renderer import Renderer
from model.errors import InputError
from model.latents.latent import Latent
from model.spec import BITS, Encoding, RenderSpec
from model.viewport import Crop, Grid, Viewport
from service.imaging.export_spec import FORMATS_OF, KINDS, TILE_BOUNDS, TILE_STEP, ExportSpec
from tests.kernels.networks import random_checkpoint
from tests.model.test_viewport import latents, viewports
from tests.service.imaging.drawn import level_spec, make_order


@st.composite
def orders(draw: st.DrawFn, largest: int = 5000) -> ExportSpec:
    kind = draw(st.sampled_from(KINDS))
    image_format = draw(st.sampled_from(FORMATS_OF[kind]))
    bits = draw(st.sampled_from((8,) if kind == "dzi" else BITS[image_format]))
    encoding = Encoding(image_format, draw(st.integers(1, 100)), bits=bits)
    low, high = TILE_BOUNDS
    tile = draw(st.integers(low // TILE_STEP, high // TILE_STEP)) * TILE_STEP
    return ExportSpec(RenderSpec(draw(st.text()), draw(latents), draw(viewports(largest)), encoding), kind, tile)


@given(orders())
def test_an_order_survives_its_text(export: ExportSpec) -> None:
    text = export.to_json()
    again = ExportSpec.from_json(text)
    assert again == export
    assert again.to_json() == text
    assert ExportSpec.from_json(text.encode()) == export


@given(orders(), orders())
def test_texts_are_equal_exactly_where_orders_are(one: ExportSpec, other: ExportSpec) -> None:
    assert (one.to_json() == other.to_json()) == (one == other)


@given(orders(), st.integers(2, 64), st.sampled_from((1.0, 4.0)))
def test_the_work_of_all_tiles_is_that_of_their_levels(export: ExportSpec, resolution: int, max_scale: float) -> None:
    network = resolution, max_scale
    ends = [export.work(tiles, *network) for tiles in export.pyramid.starts]
    assert ends == sorted(ends)
    assert ends[0] == 0
    assert ends[-1] == pytest.approx(export.rendered_pixels(*network))
    last = export.tiles - 1  # a tile of the largest level
    viewport = export.tile_spec(last).viewport
    share = export.pyramid.levels[-1].tiles * (export.work(export.tiles, *network) - export.work(last, *network))
    assert share == pytest.approx(replace(viewport, crop=export.spec.viewport.crop).rendered_pixels(*network), rel=1e-6)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"kind": "dzi", "tile": 64, "spec": {}}'])
def test_text_that_is_no_order(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        ExportSpec.from_json(text)


@pytest.mark.parametrize(
    ("changed", "field", "limit"),
    [
        ({"tile": 48}, "tile", "64 to 2048"),
        ({"tile": 2064}, "tile", "64 to 2048"),
        ({"tile": 100}, "tile", "multiple of 16"),
        ({"tile": 0}, "tile", "64 to 2048"),
        ({"tile": -64}, "tile", "64 to 2048"),
        ({"kind": "gif"}, "output", "dzi, tiff, png"),
        ({"kind": "tiff", "image_format": "webp"}, "format", "'png' or 'jpeg' or 'tiff'"),
        ({"kind": "dzi", "bits": 16}, "bits", "must be 8 for the output dzi"),
        ({"kind": "png", "image_format": "jpeg"}, "format", "must be 'png'"),
        ({"kind": "png", "image_format": "webp"}, "format", "must be 'png'"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field(changed: dict[str, Any], field: str, limit: str) -> None:
    with pytest.raises(InputError, match=limit) as caught:
        make_order(**{"kind": "dzi", **changed})
    assert caught.value.field == field


@given(orders(), st.data())
def test_tiles_of_the_last_level_are_crops_of_the_image(export: ExportSpec, data: st.DataObject) -> None:
    """Only the crop differs, so that the renderer gives them the picture's own pixels."""
    viewport = export.spec.viewport
    first = export.pyramid.starts[-2]
    index = data.draw(st.integers(first, export.pyramid.tiles - 1))
    tile = export.tile_spec(index)
    x, y, w, h = export.tile_box(index)
    left, top, width, height = viewport.crop
    assert tile.viewport.crop == (left + x, top + y, w, h)
    assert x + w <= width
    assert y + h <= height
    rest = (viewport.width, viewport.height, viewport.region, viewport.grid)
    assert (tile.viewport.width, tile.viewport.height, tile.viewport.region, tile.viewport.grid) == rest
    assert (tile.model, tile.latent, tile.encoding) == (export.spec.model, export.spec.latent, export.spec.encoding)


@given(orders(), st.data())
def test_tiles_of_smaller_levels_show_the_same_part_of_the_plane(export: ExportSpec, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, len(export.pyramid.levels) - 1))
    spec = level_spec(export, level)
    assert spec.viewport.crop_region == pytest.approx(export.spec.viewport.crop_region, abs=1e-12)
    assert spec.viewport.crop[2:] == (export.pyramid.levels[level].width, export.pyramid.levels[level].height)


@pytest.mark.parametrize("crop", [None, (41, 13, 203, 150)])
@pytest.mark.parametrize("grid", ["centers", "corners"])
def test_tiles_are_the_pixels_of_the_whole(
    crop: Crop | None, grid: Grid, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Drawn by the real renderer; the levels are pictures of the crop alone."""
    renderer = Renderer(random_checkpoint(tmp_path_factory.mktemp("model")), "cpu")
    spec = RenderSpec("random", Latent(seed=3), Viewport.resolve(300, 170, crop=crop, grid=grid))
    export = ExportSpec(spec, "dzi", 64)
    for level, size in enumerate(export.pyramid.levels):
        stitched = np.zeros((size.height, size.width, 3), np.uint8)
        for index in export.pyramid.scan(level):
            x, y, w, h = export.tile_box(index)
            stitched[y : y + h, x : x + w] = renderer.render(export.tile_spec(index))
        last = level == len(export.pyramid.levels) - 1
        assert np.array_equal(stitched, renderer.render(spec if last else level_spec(export, level)))


def test_names_are_those_that_viewers_ask_for() -> None:
    export = make_order("dzi", image_format="jpeg")
    assert export.pyramid.levels[9].columns == 5
    assert export.tile_name(export.pyramid.index(9, 4, 2)) == "picture_files/9/4_2.jpg"
    assert export.name == "picture.dzi"
    names = [export.tile_name(index) for index in range(export.pyramid.tiles)]
    assert len(set(names)) == len(names)
    assert make_order("tiff").tile_name(0) == "tiles/0/0_0.png"
    assert make_order("png").name == "picture.png"


@given(orders(), st.data())
def test_a_name_tells_its_tile(export: ExportSpec, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, export.pyramid.tiles - 1))
    assert export.tile_index(export.tile_name(index)) == index


@pytest.mark.parametrize(
    "name",
    ["", "tiles/3/5_0.png", "tiles/3/0_3.png", "tiles/4/0_0.png", "tiles/0/0_0.jpg", "tiles/0/0_0.png#1", "job.json"],
)
def test_other_names_are_those_of_no_tile(name: str) -> None:
    export = make_order("tiff")
    assert export.tile_index("tiles/3/4_2.png") == export.pyramid.tiles - 1
    assert export.tile_index(name) is None
