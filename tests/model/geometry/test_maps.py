"""Pull-backs: which place of the picture a place of the plane shows."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.geometry.maps import cos_sin, invert, projective_matrix, pull_back
from model.geometry.outside import Outside, fold
from model.geometry.transforms import Transform, parse_transforms

angles = st.floats(-720, 720)
places = st.floats(-1, 1)


def show(transforms: list[dict[str, Any]], x: float, y: float) -> tuple[float, float]:
    """The place of the picture at a place of the plane, both relative to the centre."""
    u, v = pull_back(parse_transforms(transforms))(np.array([x]), np.array([y]))
    return float(u[0]), float(v[0])


@pytest.mark.parametrize(
    ("transforms", "plane", "picture"),
    [
        ([{"rotate": 90}], (0.5, 0), (0, -0.5)),  # clockwise: what was at the top is now at the right
        ([{"translate": [0.1, 0.2]}], (0.1, 0.2), (0, 0)),
        ([{"scale": 2}], (0.5, 0.5), (0.25, 0.25)),
        ([{"shear": [0.5, 0]}], (0.25, 0.5), (0, 0.5)),
        ([{"matrix": [2, 0, 0.1, 0, 1, 0]}], (0.1, 0.3), (0, 0.3)),
        ([{"translate": [0.5, 0]}, {"rotate": 90}], (0, 0.5), (0, 0)),  # in the order given
        ([{"rotate": 90}, {"translate": [0.5, 0]}], (0.5, 0), (0, 0)),
        ([{"perspective": [1, 0, 0, 0, 1, 0, 1, 0, 1]}], (0.5 / 1.5, 0), (0.5, 0)),
        ([{"lens": {"k1": 0.5}}], (0.5, 0.5), (0.75, 0.75)),  # the corner shows what lies beyond
        ([{"swirl": {"degrees": 90, "radius": 1}}], (0, 0), (0, 0)),
        ([{"swirl": {"degrees": 90, "radius": 0.5}}], (0.5, 0), (0.5, 0)),
        ([{"polar": {}}], (0, -0.25), (0, 0)),  # halfway from the centre up: the middle of the picture
        ([{"polar": {}}], (0.5, 0), (0.25, 0.5)),  # a quarter turn clockwise, at the rim
        ([{"cylinder": {"fov": 90}}], (0.5, 0), (1 / 8, 0)),  # 45 of 360 degrees
        ([{"equirect": {"fov": 90}}], (-0.5, 0), (-1 / 8, 0)),
        ([{"equirect": {"fov": 90, "pitch": 90}}], (0, 0), (0, -0.5)),  # the zenith is the top
        ([{"mesh": {"rows": 2, "columns": 2, "points": [[0, 0], [1, 0], [0.2, 1], [1, 1]]}}], (-0.5, 0), (-0.4, 0)),
    ],
)
def test_examples(transforms: list[dict[str, Any]], plane: tuple[float, float], picture: tuple[float, float]) -> None:
    assert show(transforms, *plane) == pytest.approx(picture, abs=1e-12)


@given(angles, st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 10), places, places)
def test_matrices_are_undone_by_their_inverses(
    degrees: float, shift: float, shear: float, scale: float, x: float, y: float
) -> None:
    there: list[dict[str, Any]] = [
        {"rotate": degrees},
        {"translate": [shift, 0.3]},
        {"shear": [shear, 0]},
        {"scale": scale},
    ]
    back: list[dict[str, Any]] = [
        {"scale": 1 / scale},
        {"shear": [-shear, 0]},
        {"translate": [-shift, -0.3]},
        {"rotate": -degrees},
    ]
    assert show(there + back, x, y) == pytest.approx((x, y), abs=1e-9)


@given(angles, places, places)
def test_a_rotation_keeps_distances_and_turns_clockwise(degrees: float, x: float, y: float) -> None:
    u, v = show([{"rotate": degrees}], x, y)
    assert math.hypot(u, v) == pytest.approx(math.hypot(x, y), abs=1e-12)
    if math.hypot(x, y) > 0.01:
        turned = math.degrees(math.atan2(y, x) - math.atan2(v, u))
        assert (turned - degrees + 180) % 360 == pytest.approx(180, abs=1e-6)


@pytest.mark.parametrize("turns", range(-5, 6))
def test_quarter_turns_are_exact(turns: int) -> None:
    cos, sin = cos_sin(90.0 * turns)
    assert {abs(cos), abs(sin)} == {0.0, 1.0}
    matrix = projective_matrix(Transform("rotate", (90.0 * turns,)))
    assert matrix is not None
    assert np.array_equal(invert(matrix) @ matrix, np.eye(3))


@given(st.floats(-3600, 3600), st.floats(0.1, 2), places, places)
def test_a_swirl_keeps_distances_and_is_undone(degrees: float, radius: float, x: float, y: float) -> None:
    there, back = {"swirl": {"degrees": degrees, "radius": radius}}, {"swirl": {"degrees": -degrees, "radius": radius}}
    assert show([there, back], x, y) == pytest.approx((x, y), abs=1e-9)


@given(st.integers(2, 6), st.integers(2, 6), places, places)
def test_a_regular_mesh_moves_nothing(rows: int, columns: int, x: float, y: float) -> None:
    points = [[column / (columns - 1), row / (rows - 1)] for row in range(rows) for column in range(columns)]
    mesh = {"rows": rows, "columns": columns, "points": points}
    assert show([{"mesh": mesh}], x, y) == pytest.approx((x, y), abs=1e-9)


def test_beyond_the_horizon_is_nothing() -> None:
    assert all(math.isnan(value) for value in show([{"perspective": [1, 0, 0, 0, 1, 0, 1, 0, 1]}], 1.5, 0))


@pytest.mark.parametrize("degrees", [10.0, 33.3, 90.0])
@pytest.mark.parametrize("shift", [0.0, 0.013])
def test_optical_flow(degrees: float, shift: float) -> None:
    """Between two frames of a turn and a pan, every point moves as the motion says, to a thousandth of a pixel."""
    side, step = 512, 1.5
    grid = (np.arange(side) + 0.5) / side - 0.5
    x, y = np.meshgrid(grid[::37], grid[::37])

    def frame(angle: float, move: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        transforms = parse_transforms([{"rotate": angle}, {"translate": [move, 0]}])
        return pull_back(transforms)(x, y)

    u, v = frame(degrees, shift)
    cos, sin = math.cos(math.radians(degrees + step)), math.sin(math.radians(degrees + step))
    moved_x, moved_y = cos * u - sin * v + shift + 0.01, sin * u + cos * v  # where the points are a frame later
    found = pull_back(parse_transforms([{"rotate": degrees + step}, {"translate": [shift + 0.01, 0]}]))(
        moved_x, moved_y
    )
    assert np.abs(np.stack(found) - np.stack([u, v])).max() * side < 1e-3


@given(st.floats(-1000, 1000), st.sampled_from(["clamp", "mirror", "wrap"]))
def test_what_lies_outside_is_folded_into_the_square(place: float, outside: Outside) -> None:
    assert 0 <= fold(np.array([place]), outside)[0] <= 1


def test_folds() -> None:
    place = np.array([-0.25, 0.25, 1.25, 2.25])
    assert fold(place, "extend").tolist() == [-0.25, 0.25, 1.25, 2.0]
    assert fold(place, "clamp").tolist() == [0.0, 0.25, 1.0, 1.0]
    assert fold(place, "mirror").tolist() == [0.25, 0.25, 0.75, 0.25]
    assert fold(place, "wrap").tolist() == [0.75, 0.25, 0.25, 0.25]
    assert np.array_equal(fold(place, "fill"), [np.nan, 0.25, np.nan, np.nan], equal_nan=True)
