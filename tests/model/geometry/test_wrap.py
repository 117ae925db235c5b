"""Seamless axes: their values, and how lines are blended."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InputError
from model.geometry.transforms import parse_transforms
from model.geometry.wrap import Wrap, seam_weights
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Grid, Viewport


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"axes": "z"}, "wrap"),
        ({"axes": "yx"}, "wrap"),
        ({"axes": "x", "mode": "fade"}, "wrap_mode"),
        ({"axes": "x", "blend": 0.0}, "wrap_blend"),
        ({"axes": "x", "blend": 1.1}, "wrap_blend"),
        ({"axes": "x", "blend": float("nan")}, "wrap_blend"),
    ],
)
def test_what_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        Wrap(**values)
    assert caught.value.field == field


def test_a_mirror_has_no_blend() -> None:
    assert Wrap("x", "mirror", 0.5) == Wrap("x", "mirror")


@given(st.floats(0.01, 1))
def test_weights_rise_smoothly_at_the_end_of_a_period(blend: float) -> None:
    weights = seam_weights(np.linspace(0, 1, 1001), blend)
    assert (weights[0], weights[-1]) == (0.0, pytest.approx(1.0))
    assert (np.diff(weights) >= 0).all()
    assert np.diff(weights).max() <= 1.6 / 1000 / blend + 1e-9


@pytest.mark.parametrize("grid", ["centers", "corners"])
def test_lines_of_a_blended_axis(grid: Grid) -> None:
    resolution = 64
    plain = Viewport.resolve(128, 128, (0, 0, 1, 1), grid=grid)
    viewport = Viewport.resolve(128, 128, (0, 0, 1, 1), grid=grid, wrap=Wrap("x", blend=0.25))
    assert np.array_equal(viewport.rows(0, 100, resolution), plain.rows(0, 100, resolution))
    here, before, weights = viewport.columns(0, 127, resolution)
    assert here == pytest.approx(plain.columns(0, 127, resolution), abs=1e-12)
    period = 1.0 if grid == "corners" else resolution / (resolution - 1)
    assert here - before == pytest.approx(period, abs=1e-12)
    assert not weights[:95].any()
    assert (weights[97:] > 0).all()
    later = Viewport.resolve(128, 128, (1, 0, 2, 1), grid=grid, wrap=Wrap("x", blend=0.25))
    assert later.columns(0, 127, resolution) == pytest.approx(np.stack([here, before, weights]), abs=1e-9)


def test_a_mirrored_axis() -> None:
    viewport = Viewport.resolve(8, 8, (-1, 0, 1, 1), wrap=Wrap("x", "mirror"))
    columns = viewport.columns(0, 8, 64)
    assert columns.shape == (8,)
    assert np.array_equal(columns, columns[::-1])


def test_a_spec_survives_its_text() -> None:
    for wrap in (Wrap("x"), Wrap("xy", "mirror"), Wrap("y", blend=0.5)):
        viewport = Viewport.resolve(8, 8, transform=parse_transforms([{"rotate": 3}]), wrap=wrap)
        spec = RenderSpec("model", Latent(seed=1), viewport)
        assert RenderSpec.from_json(spec.to_json()) == spec
