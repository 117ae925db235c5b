"""The field ``transform`` of bodies, and of addresses as JSON text."""

import json
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from model.errors import InputError
from model.geometry.transforms import LISTS, MAX_TRANSFORMS, MESH_SIDES, NAMED, Transform, parse_transforms

MAX_TEXT = 4096
"""Longest text in an address. A body may be longer."""

DESCRIPTION = (
    "what moves the picture about the centre of the unit square, in its units and in this order, as objects of one "
    "name each; see docs/geometry.md"
)

_NUMBER: dict[str, Any] = {"type": "number", "minimum": -1e9, "maximum": 1e9}


def _numbers(count: int) -> dict[str, Any]:
    return {"type": "array", "items": _NUMBER, "minItems": count, "maxItems": count}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return values | ({"required": required} if required else {})


def _schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of each kind's values."""
    side = {"type": "integer", "minimum": MESH_SIDES[0], "maximum": MESH_SIDES[1]}
    points = {"type": "array", "items": _numbers(2), "maxItems": MESH_SIDES[1] ** 2}
    schemas: dict[str, dict[str, Any]] = {"rotate": _NUMBER | {"description": "degrees clockwise"}}
    schemas |= {kind: _numbers(count) for kind, count in LISTS.items()}
    schemas["scale"] = {"anyOf": [_NUMBER, _numbers(2)]}
    for kind, names in NAMED.items():
        schemas[kind] = _object(dict.fromkeys(names, _NUMBER), [name for name in names if names[name] is None])
    mesh = {"rows": side, "columns": side, "points": points}
    return schemas | {"mesh": _object(mesh, list(mesh))}


_SCHEMA = {
    "type": "array",
    "maxItems": MAX_TRANSFORMS,
    "items": {"anyOf": [_object({kind: schema}, [kind]) for kind, schema in _schemas().items()]},
}


def _parse(given: object) -> tuple[Transform, ...]:
    try:
        return parse_transforms(given)
    except InputError as error:
        raise ValueError(error.message) from None


def _parse_text(text: object) -> tuple[Transform, ...]:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ValueError(f"must be JSON of at most {MAX_TEXT} characters")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError('must be JSON such as [{"rotate": 30}]') from None
    return _parse(given)


Transforms = Annotated[tuple[Transform, ...], PlainValidator(_parse), WithJsonSchema(_SCHEMA)]
"""In a body."""

QueryTransforms = Annotated[
    tuple[Transform, ...],
    PlainValidator(_parse_text),
    WithJsonSchema({"type": "string", "maxLength": MAX_TEXT, "contentMediaType": "application/json"}),
]
"""In an address."""
