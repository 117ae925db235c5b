"""Geometry of viewports and the text of specs, by properties."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.config import GeneratorConfig
from model.errors import InputError
from model.geometry.orientation import Orientation
from model.geometry.outside import OUTSIDES, Outside
from model.geometry.transforms import parse_transforms
from model.latents.latent import MAX_SEED, Edit, Latent, LayerStyles, Weighted, pack_floats
from model.spec import Encoding, RenderSpec
from model.viewport import MAX_SIDE, MIN_REGION_EXTENT, Crop, Grid, Region, Viewport

sides = st.integers(1, MAX_SIDE)
resolutions = st.sampled_from([8, 32, 128, 512, 1024, 4096])
grids: st.SearchStrategy[Grid] = st.sampled_from(["centers", "corners"])


@st.composite
def regions(draw: st.DrawFn) -> Region:
    def interval() -> tuple[float, float]:
        a, b = sorted((draw(st.floats(-1, 2)), draw(st.floats(-1, 2))))
        assume(b - a >= MIN_REGION_EXTENT)
        return a, b

    (x0, x1), (y0, y1) = interval(), interval()
    return x0, y0, x1, y1


@st.composite
def viewports(draw: st.DrawFn, largest: int = MAX_SIDE) -> Viewport:
    width, height = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    crop = (x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    region = draw(st.none() | regions())
    return Viewport.resolve(width, height, region, draw(st.none() | st.just(crop)), draw(grids))


@given(viewports())
def test_resolving_a_resolved_viewport_changes_nothing(viewport: Viewport) -> None:
    assert Viewport.resolve(**dataclasses.asdict(viewport)) == viewport


@given(sides, sides)
def test_default_region_of_centers_is_the_largest_centred_window_of_the_aspect(width: int, height: int) -> None:
    x0, y0, x1, y1 = Viewport.resolve(width, height).region
    assert (x1 - x0) * height == pytest.approx((y1 - y0) * width, rel=1e-9)
    assert max(x1 - x0, y1 - y0) == 1.0
    assert (x0 + x1, y0 + y1) == pytest.approx((1.0, 1.0))


@given(sides, sides)
def test_default_region_of_corners_is_the_full_square(width: int, height: int) -> None:
    assert Viewport.resolve(width, height, grid="corners").region == (0.0, 0.0, 1.0, 1.0)


@given(viewports(largest=500), resolutions)
def test_positions_of_a_crop_are_those_of_the_whole_bit_for_bit(viewport: Viewport, resolution: int) -> None:
    x, y, w, h = viewport.crop
    m_x, m_y = viewport.supersampling(resolution)
    assume(max(viewport.width * m_x, viewport.height * m_y) < 100_000)
    columns = viewport.columns(0, viewport.width * m_x, resolution, m_x)
    rows = viewport.rows(0, viewport.height * m_y, resolution, m_y)
    np.testing.assert_array_equal(
        viewport.columns(x * m_x, (x + w) * m_x, resolution, m_x), columns[x * m_x : (x + w) * m_x]
    )
    np.testing.assert_array_equal(viewport.rows(y * m_y, (y + h) * m_y, resolution, m_y), rows[y * m_y : (y + h) * m_y])


@given(viewports(), resolutions, st.data())
def test_a_crop_is_the_image_of_its_region(viewport: Viewport, resolution: int, data: st.DataObject) -> None:
    """Drawn at the crop's own size, the region that it shows has the crop's positions."""
    x, y, w, h = viewport.crop
    alone = Viewport(w, h, viewport.crop_region, (0, 0, w, h), viewport.grid)
    column, row = data.draw(st.integers(0, w - 1)), data.draw(st.integers(0, h - 1))
    for positions, expected in (
        (alone.columns(column, min(column + 64, w), resolution), viewport.columns(x + column, x + w, resolution)),
        (alone.rows(row, min(row + 64, h), resolution), viewport.rows(y + row, y + h, resolution)),
    ):
        np.testing.assert_allclose(positions, expected[:64], rtol=0, atol=1e-12)


@given(viewports())
def test_the_whole_image_shows_its_region(viewport: Viewport) -> None:
    whole = dataclasses.replace(viewport, crop=(0, 0, viewport.width, viewport.height))
    assert whole.crop_region == viewport.region


def test_a_refused_region_is_not_rounded() -> None:
    with pytest.raises(InputError, match=r"must lie within -1 and 2, not 0,0,2\.0000001,1"):
        Viewport.resolve(8, 8, (0.0, 0.0, 2.0000001, 1.0))


def test_crop_region_examples() -> None:
    region, crop = (0.0, 0.0, 1.0, 1.0), (25, 50, 50, 1)
    assert Viewport.resolve(100, 101, region, crop).crop_region == pytest.approx((0.25, 50 / 101, 0.75, 51 / 101))
    corners = Viewport.resolve(101, 101, region, crop, "corners")
    assert corners.crop_region == pytest.approx((0.25, 0.5, 0.74, 0.5))  # centre to centre: nothing in one row


@given(viewports(), resolutions, st.data())
def test_positions_increase_from_pixel_to_pixel(viewport: Viewport, resolution: int, data: st.DataObject) -> None:
    """Even the smallest region of the largest image has another position for every pixel."""
    start = data.draw(st.integers(0, viewport.width - 1))
    positions = viewport.columns(start, min(start + 64, viewport.width), resolution)
    assert positions.dtype == np.float64
    assert (np.diff(positions) > 0).all()


@given(sides, regions(), resolutions)
def test_centers_follow_their_formula(size: int, region: Region, resolution: int) -> None:
    viewport = Viewport.resolve(size, size, region)
    j = size // 2
    a = region[1] + (region[3] - region[1]) * (j + 0.5) / size
    expected = (a * resolution - 0.5) / (resolution - 1)
    assert viewport.rows(j, j + 1, resolution)[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.integers(2, MAX_SIDE), regions(), resolutions)
def test_corners_span_the_region(size: int, region: Region, resolution: int) -> None:
    viewport = Viewport.resolve(size, size, region, grid="corners")
    positions = [viewport.columns(j, j + 1, resolution)[0] for j in (0, size - 1)]
    assert positions == pytest.approx([region[0], region[2]], abs=1e-12)


@given(regions(), resolutions)
def test_corners_of_one_pixel_are_the_beginning_of_the_region(region: Region, resolution: int) -> None:
    viewport = Viewport.resolve(1, 1, region, grid="corners")
    assert viewport.columns(0, 1, resolution)[0] == region[0]
    assert viewport.rows(0, 1, resolution)[0] == region[1]


@pytest.mark.parametrize("resolution", [8, 64, 512])
def test_both_grids_agree_on_the_training_image(resolution: int) -> None:
    centers = Viewport.resolve(resolution, resolution).columns(0, resolution, resolution)
    corners = Viewport.resolve(resolution, resolution, grid="corners").columns(0, resolution, resolution)
    np.testing.assert_allclose(centers, corners, atol=1e-14)


@given(st.integers(1, 2000), st.integers(2, 9), regions(), resolutions)
def test_scales_are_registered(size: int, factor: int, region: Region, resolution: int) -> None:
    """A pixel of the ``centers`` grid lies at the mean of the pixels that cover it in a image ``factor`` times as
    large, and supersampling is that same larger grid."""
    small = Viewport.resolve(size, size, region)
    large = Viewport.resolve(size * factor, size * factor, region)
    fine = large.columns(0, size * factor, resolution)
    np.testing.assert_array_equal(small.columns(0, size * factor, resolution, supersampling=factor), fine)
    np.testing.assert_allclose(
        fine.reshape(size, factor).mean(axis=1), small.columns(0, size, resolution), rtol=0, atol=1e-12
    )


@given(sides, sides, regions(), resolutions)
def test_supersampling_reaches_the_networks_resolution_and_no_further(
    width: int, height: int, region: Region, resolution: int
) -> None:
    factors = Viewport.resolve(width, height, region).supersampling(resolution)
    extents = (region[2] - region[0], region[3] - region[1])
    for factor, size, extent in zip(factors, (width, height), extents, strict=True):
        assert factor >= 1
        assert factor * size >= resolution * extent - 1e-6 * size
        assert factor == 1 or (factor - 1) * size < resolution * extent


@pytest.mark.parametrize(("width", "expected"), [(64, 1), (32, 2), (33, 2), (63, 2), (1, 64), (640, 1)])
def test_supersampling_examples(width: int, expected: int) -> None:
    full = (0.0, 0.0, 1.0, 1.0)
    assert Viewport.resolve(width, 64, full).supersampling(64) == (expected, 1)
    assert Viewport.resolve(width, 64, full, grid="corners").supersampling(64) == (1, 1)


@pytest.mark.parametrize(
    ("width", "max_scale", "expected"),
    [(64, 1.0, 1), (64, 2.0, 2), (64, 3.5, 4), (64, 16.0, 4), (256, 4.0, 1), (255, 4.0, 2), (16, 8.0, 4), (8, 8.0, 8)],
)
def test_finer_detail_is_averaged_from_up_to_four_samples(width: int, max_scale: float, expected: int) -> None:
    """Of a network of 64²: beyond what its resolution takes, no more than that."""
    full = (0.0, 0.0, 1.0, 1.0)
    viewport = Viewport.resolve(width, 1024, full)
    assert viewport.supersampling(64, max_scale)[0] == expected
    assert viewport.rendered_pixels(64, max_scale) == viewport.pixels * expected
    assert Viewport.resolve(width, 64, full, grid="corners").supersampling(64, max_scale) == (1, 1)


def test_finer_detail_of_warped_images_is_averaged_too() -> None:
    turned = Viewport.resolve(64, 64, transform=parse_transforms([{"rotate": 30}]))
    assert turned.upright is None
    assert turned.rendered_pixels(64) == 64 * 64
    assert turned.rendered_pixels(64, 4.0) == 16 * 64 * 64


def test_rounding_of_a_region_costs_no_supersampling() -> None:
    """0.4 − 0.1 is a little more than 0.3."""
    region = (0.1, 0.0, 0.4, 1.0)
    assert region[2] - region[0] > 0.3
    assert Viewport.resolve(30, 100, region).supersampling(100) == (1, 1)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"width": 0}, "width"),
        ({"width": -5}, "width"),
        ({"height": MAX_SIDE + 1}, "height"),
        ({"grid": "middle"}, "grid"),
        ({"region": (0.0, 0.0, 0.0, 1.0)}, "region"),
        ({"region": (0.5, 0.0, 0.2, 1.0)}, "region"),
        ({"region": (0.0, 0.0, 1.0, 2.1)}, "region"),
        ({"region": (-1.5, 0.0, 1.0, 1.0)}, "region"),
        ({"region": (0.0, math.nan, 1.0, 1.0)}, "region"),
        ({"region": (0.0, 0.0, math.inf, 1.0)}, "region"),
        ({"region": (0.0, 0.0, 1.0)}, "region"),
        ({"region": (0.0, 0.0, MIN_REGION_EXTENT / 2, 1.0)}, "region"),
        ({"crop": (0, 0, 0, 5)}, "crop"),
        ({"crop": (0, 0, 5, -1)}, "crop"),
        ({"crop": (-1, 0, 5, 5)}, "crop"),
        ({"crop": (60, 0, 5, 5)}, "crop"),
        ({"crop": (0, 0, 5, 65)}, "crop"),
        ({"crop": (0, 0, 5)}, "crop"),
    ],
)
def test_what_cannot_be_shown_is_refused_by_its_field(asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        Viewport.resolve(**{"width": 64, "height": 64, **asked})
    assert caught.value.field == field


@given(sides, sides, st.data())
def test_crops_are_accepted_exactly_where_they_lie_inside(width: int, height: int, data: st.DataObject) -> None:
    crop: Crop = data.draw(st.tuples(*[st.integers(-3, MAX_SIDE + 3)] * 4))
    x, y, w, h = crop
    inside = x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height
    if inside:
        assert Viewport.resolve(width, height, crop=crop).pixels == w * h
    else:
        with pytest.raises(InputError, match=r"^crop: "):
            Viewport.resolve(width, height, crop=crop)


numbers = st.floats(allow_nan=False, allow_infinity=False)
numbers32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
vectors = st.lists(numbers32, max_size=5).map(pack_floats)
layers = st.lists(st.integers(0, 30), max_size=5).map(tuple)
latents = st.recursive(
    st.builds(
        Latent,
        seed=st.none() | st.integers(0, MAX_SEED),
        z=st.none() | vectors,
        w=st.none() | vectors,
        class_index=st.none() | st.integers(0, 100_000),
        psi=numbers,
        cutoff=st.none() | st.integers(0, 30),
        edits=st.lists(
            st.builds(Edit, st.sampled_from(["sefa:2", "pca:0"]) | vectors, numbers, st.none() | layers), max_size=2
        ).map(tuple),
    ),
    lambda inner: st.builds(
        Latent,
        mix=st.lists(st.builds(Weighted, inner, numbers), max_size=2).map(tuple),
        styles=st.lists(st.builds(LayerStyles, layers, inner), max_size=2).map(tuple),
    ),
    max_leaves=4,
)
encodings = st.builds(Encoding, st.sampled_from(["png", "jpeg", "webp"]), st.integers(1, 100))
specs = st.builds(RenderSpec, st.text(), latents, viewports(), encodings)


@given(specs)
def test_a_spec_survives_its_text(spec: RenderSpec) -> None:
    text = spec.to_json()
    again = RenderSpec.from_json(text)
    assert again == spec
    assert again.to_json() == text
    assert again.key == spec.key


@given(specs, specs)
def test_keys_are_equal_exactly_where_specs_are(one: RenderSpec, other: RenderSpec) -> None:
    assert (one.key == other.key) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Latent(seed=1, psi=1), Latent(seed=1, psi=1.0)),
        (Latent(seed=1, psi=-0.0), Latent(seed=1, psi=0.0)),
        (Latent(z=pack_floats((0, 1))), Latent(z=pack_floats((-0.0, 1.0)))),
        (Latent(w=pack_floats((0, 1))), Latent(w=pack_floats((-0.0, 1.0)))),
    ],
)
def test_equal_numbers_have_one_key(one: Latent, other: Latent) -> None:
    viewports = (Viewport.resolve(8, 8, (0, 0, 1, 1)), Viewport.resolve(8, 8, (-0.0, 0.0, 1.0, 1.0)))
    keys = [RenderSpec("demo", *parts).key for parts in zip((one, other), viewports, strict=True)]
    assert keys[0] == keys[1]


CONDITIONAL = GeneratorConfig(resolution=16, z_dim=2, w_dim=3, classes=5, mapping_layers=1)
UNCONDITIONAL = dataclasses.replace(CONDITIONAL, classes=0)


@pytest.mark.parametrize(
    ("latent", "field"),
    [
        (Latent(), "seed"),
        (Latent(seed=1, z=pack_floats((0.0, 0.0))), "seed"),
        (Latent(seed=-1), "seed"),
        (Latent(seed=MAX_SEED + 1), "seed"),
        (Latent(z=pack_floats((0.0,))), "z"),
        (Latent(z=pack_floats((0.0, math.nan))), "z"),
        (Latent(w=pack_floats((0.0,) * 4)), "w"),
        (Latent(w=pack_floats((0.0, 0.0, math.inf))), "w"),
        (Latent(seed=1, psi=math.nan), "truncation_psi"),
        (Latent(seed=1, psi=2.1), "truncation_psi"),
        (Latent(seed=1, cutoff=8), "truncation_cutoff"),
        (Latent(seed=1, cutoff=-1), "truncation_cutoff"),
        (Latent(seed=1, class_index=0), "class_index"),
    ],
)
def test_latents_that_do_not_fit_are_refused_by_their_field(latent: Latent, field: str) -> None:
    with pytest.raises(InputError) as caught:
        latent.check(UNCONDITIONAL)
    assert caught.value.field == field


@pytest.mark.parametrize("index", [None, -1, 5])
def test_a_conditional_network_names_its_classes(index: int | None) -> None:
    with pytest.raises(InputError, match="from 0 to 4") as caught:
        Latent(seed=1, class_index=index).check(CONDITIONAL)
    assert caught.value.field == "class_index"


def test_latents_that_fit_are_accepted() -> None:
    Latent(seed=MAX_SEED, class_index=4, psi=-2.0, cutoff=7).check(CONDITIONAL)
    Latent(z=pack_floats((0.0, 1.0))).check(UNCONDITIONAL)
    Latent(w=pack_floats((0.0,) * 3)).check(CONDITIONAL)  # a style needs no class
    Latent(w=pack_floats((0.0,) * 21)).check(UNCONDITIONAL)  # one for each of 2·3 + 1 layers


def test_seeds_draw_what_the_original_tools_draw() -> None:
    for seed, z_dim in ((2, 4), (2**32 - 1, 3), (0, 3), (2, 3)):  # normal numbers are made in pairs
        z = Latent(seed=seed).sample_z(z_dim)
        assert z.dtype == np.float32
        np.testing.assert_array_equal(z, np.random.RandomState(seed).randn(1, z_dim).astype(np.float32))


@pytest.mark.parametrize(("encoding", "field"), [(("gif", 90), "format"), (("png", 0), "quality")])
def test_encodings_are_checked(encoding: tuple[Any, int], field: str) -> None:
    with pytest.raises(InputError) as caught:
        Encoding(*encoding)
    assert caught.value.field == field


class TestTransforms:
    """What only scales, moves and mirrors is a region, with the bytes of that region."""

    def test_none_leave_the_text_as_it_was(self) -> None:
        assert set(Viewport.resolve(8, 8).to_dict()) == {"width", "height", "region", "crop", "grid"}

    @given(viewports())
    def test_identities_are_the_plain_viewport(self, viewport: Viewport) -> None:
        transform = parse_transforms([{"rotate": 360}, {"scale": 1}, {"lens": {"k1": 0}}])
        values = {field.name: getattr(viewport, field.name) for field in dataclasses.fields(viewport)}
        assert Viewport.resolve(**values | {"transform": transform}) == viewport

    @given(sides, sides, grids, st.sampled_from(OUTSIDES))
    def test_enlarging_and_moving_is_a_region(self, width: int, height: int, grid: Grid, outside: Outside) -> None:
        transform = parse_transforms([{"scale": 4}, {"translate": [0.5, -0.25]}])
        found = Viewport.resolve(width, height, (0.25, 0.25, 0.75, 0.75), None, grid, transform, outside)
        assert found == Viewport.resolve(width, height, (0.3125, 0.5, 0.4375, 0.625), None, grid)

    def test_outside_of_the_square_each_position_is_folded(self) -> None:
        found = Viewport.resolve(4, 4, (-1, 0, 1, 1), outside="wrap")
        assert found.columns(0, 4, 64).tolist() == [*found.columns(2, 4, 64)] * 2
        mirrored = Viewport.resolve(4, 4, (-1, 0, 1, 1), outside="mirror")
        assert mirrored.columns(0, 4, 64).tolist() == mirrored.columns(0, 4, 64).tolist()[::-1]
        assert Viewport.resolve(4, 4, (0, 0, 1, 1), outside="wrap") == Viewport.resolve(4, 4)

    @pytest.mark.parametrize(
        ("transform", "orientation"),
        [
            ([{"rotate": 90}], Orientation(transposed=True, mirror_y=True)),
            ([{"rotate": 180}], Orientation(mirror_x=True, mirror_y=True)),
            ([{"rotate": 270}], Orientation(transposed=True, mirror_x=True)),
            ([{"scale": [-1, 1]}], Orientation(mirror_x=True)),
            ([{"matrix": [0, 1, 0, 1, 0, 0]}], Orientation(transposed=True)),
        ],
    )
    def test_quarter_turns(self, transform: list[dict[str, Any]], orientation: Orientation) -> None:
        turned = Viewport.resolve(30, 20, crop=(3, 4, 5, 6), transform=parse_transforms(transform))
        assert turned.upright is not None
        plain, found = turned.upright
        assert found == orientation
        assert plain.transform == ()
        whole = np.arange(plain.width * plain.height).reshape(plain.height, plain.width, 1)
        x, y, w, h = plain.crop
        assert np.array_equal(found.apply(whole[y : y + h, x : x + w]), found.apply(whole)[4:10, 3:8])

    def test_a_quarter_turn_clockwise(self) -> None:
        image = np.array([[[1], [2]], [[3], [4]]])
        upright = Viewport.resolve(2, 2, transform=parse_transforms([{"rotate": 90}])).upright
        assert upright is not None
        assert upright[1].apply(image)[..., 0].tolist() == [[3, 1], [4, 2]]

    @pytest.mark.parametrize("transform", [[{"rotate": 30}], [{"lens": {"k1": 0.1}}], [{"scale": 1 / 100}]])
    def test_warped_viewports(self, transform: list[dict[str, Any]]) -> None:
        viewport = Viewport.resolve(30, 20, transform=parse_transforms(transform))
        assert viewport.upright is None
        with pytest.raises(ValueError, match="upright"):
            viewport.columns(0, 3, 64)

    def test_an_enlargement_beyond_float64(self) -> None:
        with pytest.raises(InputError, match=r"^transform: must not enlarge"):
            Viewport.resolve(8, 8, (0.0, 0.0, 1e-6, 1e-6), transform=parse_transforms([{"scale": 1024}] * 2))

    def test_an_unknown_outside(self) -> None:
        with pytest.raises(InputError, match=r"^outside: must be one of extend"):
            Viewport.resolve(8, 8, outside="repeat")  # type: ignore[arg-type]

    @given(viewports(), st.sampled_from(OUTSIDES))
    def test_a_spec_survives_its_text(self, viewport: Viewport, outside: Outside) -> None:
        transform = parse_transforms([{"rotate": 30}, {"polar": {}}])
        moved = dataclasses.replace(viewport, transform=transform, outside=outside)
        spec = RenderSpec("model", Latent(seed=1), moved)
        assert RenderSpec.from_json(spec.to_json()) == spec
