"""Transforms: their JSON, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import InputError
from model.geometry.transforms import KINDS, MAX_TRANSFORMS, Transform, parse_transform, parse_transforms

MESH = {"rows": 2, "columns": 3, "points": [[0, 0], [0.5, 0.1], [1, 0], [0, 1], [0.5, 0.9], [1, 1]]}

EXAMPLES: list[dict[str, Any]] = [
    {"rotate": 30},
    {"translate": [0.1, -0.2]},
    {"scale": 1.5},
    {"scale": [1, -2]},
    {"shear": [0.1, 0]},
    {"matrix": [1, 0.2, 0, 0.1, 1, 0.3]},
    {"perspective": [1, 0, 0, 0, 1, 0, 0.2, 0.1, 1]},
    {"lens": {"k1": -0.2}},
    {"lens": {"k1": 0.2, "k2": 0.05}},
    {"swirl": {"degrees": 90}},
    {"polar": {}},
    {"cylinder": {"fov": 120}},
    {"equirect": {"fov": 90, "yaw": 45, "pitch": -20}},
    {"mesh": MESH},
]

numbers = st.floats(-100, 100)


def test_there_is_an_example_of_every_kind() -> None:
    assert {next(iter(example)) for example in EXAMPLES} == set(KINDS)


@pytest.mark.parametrize("example", EXAMPLES, ids=[next(iter(example)) for example in EXAMPLES])
def test_a_transform_survives_its_json(example: dict[str, Any]) -> None:
    transform = parse_transform(example)
    text = json.dumps(transform.to_json())
    assert parse_transform(json.loads(text)) == transform
    assert not transform.is_identity


@given(st.lists(st.builds(lambda x, y: Transform("translate", (x, y)), numbers, numbers), max_size=MAX_TRANSFORMS))
def test_lists_survive_their_json(transforms: list[Transform]) -> None:
    text = json.dumps([each.to_json() for each in transforms])
    assert parse_transforms(json.loads(text)) == tuple(transforms)


@pytest.mark.parametrize(
    "given",
    [
        {"rotate": 0},
        {"rotate": -720},
        {"translate": [0, -0.0]},
        {"scale": 1},
        {"shear": [0, 0]},
        {"matrix": [1, 0, 0, 0, 1, 0]},
        {"perspective": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
        {"lens": {"k1": 0}},
        {"swirl": {"degrees": 0, "radius": 1}},
    ],
)
def test_identities(given: dict[str, Any]) -> None:
    assert parse_transform(given).is_identity


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rotate": 30}, "must be a list"),
        ([{"rotate": 30}] * 17, "at most 16 entries, not 17"),
        ([{}], "one name each"),
        ([{"rotate": 1, "scale": 1}], "one name each"),
        ([3], "one name each"),
        ([{"spin": 30}], "must be one of rotate, translate"),
        ([{"rotate": "30"}], "rotate must be a number"),
        ([{"rotate": True}], "rotate must be a number"),
        ([{"rotate": float("nan")}], "rotate must be a number"),
        ([{"rotate": 1e300}], "rotate must be a number"),
        ([{"rotate": 40_000}], "from -36000 to 36000"),
        ([{"translate": [1]}], "translate must have 2 numbers"),
        ([{"translate": [1, 2000]}], "from -1024 to 1024"),
        ([{"scale": 0}], "scale, without its sign,"),
        ([{"scale": [1, 1e-5]}], "scale, without its sign,"),
        ([{"shear": [2, 0.5]}], "shear is singular"),
        ([{"matrix": [1, 2, 0, 2, 4, 0]}], "matrix is singular"),
        ([{"matrix": [1, 2, 0, 2]}], "matrix must have 6 numbers"),
        ([{"perspective": [1, 0, 0, 0, 1, 0, 0, 0, 0]}], "last number above 0"),
        ([{"perspective": [1, 0, 0, 1, 0, 0, 0, 0, 1]}], "perspective is singular"),
        ([{"lens": {"k2": 0.1}}], "lens needs k1"),
        ([{"lens": {"k1": -0.4}}], "lens folds the picture"),
        ([{"lens": {"k1": 0.1, "k3": 1}}], "lens has k1, k2, not 'k3'"),
        ([{"lens": 0.1}], "lens must be an object"),
        ([{"swirl": {"degrees": 90, "radius": 0}}], "swirl.radius must be from 0.01 to 4"),
        ([{"polar": {"x": 1}}], "polar has no values"),
        ([{"cylinder": {"fov": 180}}], "cylinder.fov must be from 1 to 170"),
        ([{"equirect": {"pitch": 91}}], "equirect.pitch must be from -90 to 90"),
        ([{"mesh": {"rows": 2, "columns": 2}}], "mesh must have rows, columns and points"),
        ([{"mesh": MESH | {"rows": 1}}], "integers from 2 to 33"),
        ([{"mesh": MESH | {"rows": 2.5}}], "integers from 2 to 33"),
        ([{"mesh": MESH | {"columns": 2}}], "must have 4 points, rows·columns, not 6"),
        ([{"mesh": MESH | {"points": [[0, 0]] * 6}}], "mesh folds the picture"),
        ([{"mesh": MESH | {"points": [[0, 0, 0]] * 6}}], "mesh.points must have 2 numbers"),
        ([{"mesh": MESH | {"points": [[0, 0]] * 5 + [[3, 0]]}}], "mesh.points must be from -1 to 2"),
    ],
)
def test_what_is_refused(given: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_transforms(given)
    assert caught.value.field == "transform"
    assert message in caught.value.message
