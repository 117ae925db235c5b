"""What a request body may say of latents."""

import re
from itertools import chain
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field, PlainValidator, TypeAdapter, WithJsonSchema

from model.errors import InputError
from model.latents.direction_names import LABEL
from model.latents.latent import DIRECTION_NAME, LATENT_ID, MAX_AMOUNT, MAX_LATENTS, MAX_SEED, pack_floats, parse_base64
from service.gateway.schema_types import (
    CUTOFF,
    PSI,
    Class,
    Cutoff,
    Integer,
    Number,
    Psi,
    QueryInteger,
    StrictModel,
    both_names,
)

MAX_NUMBERS = 1 << 16
"""Most numbers of one vector: w+ of 64 styles with 1024 components."""

_MAX_BASE64 = MAX_NUMBERS * 16 // 3
_LAYERS = r"^[0-9]{1,3}(-[0-9]{1,3})?(,[0-9]{1,3}(-[0-9]{1,3})?){0,99}$"


def _parse_vector(value: object) -> bytes:
    """Numbers, rows of numbers (one for each style), or base64 of little-endian float32."""
    if isinstance(value, bytes):  # not from JSON: of a request that is validated again
        return value
    if isinstance(value, str):
        if len(value) > _MAX_BASE64:
            raise ValueError(f"must have at most {MAX_NUMBERS} numbers")
        try:
            return parse_base64("vector", value)
        except InputError as error:
            raise ValueError(error.message) from None
    if not isinstance(value, list) or not value:
        raise ValueError("must be an array of numbers, or base64 of little-endian float32")
    if all(isinstance(row, list) for row in value):
        if len({len(row) for row in value}) > 1:
            raise ValueError("must have rows of one length")
        value = list(chain.from_iterable(value))
    if len(value) > MAX_NUMBERS:
        raise ValueError(f"must have at most {MAX_NUMBERS} numbers")
    if not all(type(number) in (float, int) for number in value):  # a bool is an int
        raise ValueError("must have numbers only")
    try:
        with np.errstate(over="ignore"):  # infinity is refused with the vector's place in the request
            return pack_floats(np.array(value, np.float64))
    except OverflowError:
        raise ValueError("must have finite numbers") from None


# Without their largest lengths: longer ones are mostly above the limit of bodies.
_NUMBERS = {"type": "array", "minItems": 1, "items": {"type": "number"}}
_VECTOR_SCHEMA = {
    "anyOf": [
        _NUMBERS,
        {"type": "array", "minItems": 1, "items": _NUMBERS},
        {"type": "string", "contentEncoding": "base64"},
    ]
}
Vector = Annotated[bytes, PlainValidator(_parse_vector), WithJsonSchema(_VECTOR_SCHEMA)]
"""Packed numbers. How many there must be is decided by the model."""

LatentId = Annotated[str, Field(pattern=f"^{LATENT_ID.pattern}$", examples=[f"lat_{'0' * 32}"])]

Layers = Annotated[
    str, Field(max_length=400, pattern=_LAYERS, description="numbers and ranges of styles", examples=["0-3"])
]


_SEED = TypeAdapter(Annotated[QueryInteger, Field(ge=0, le=MAX_SEED)])


def _parse_seed_or_id(value: object) -> int | str:
    if isinstance(value, str) and value.startswith("lat"):
        if not LATENT_ID.fullmatch(value):
            raise ValueError("must be a seed, or the id of a stored latent: lat_ and 32 hexadecimal digits")
        return value
    return _SEED.validate_python(value)


SeedOrId = Annotated[
    int | str,
    PlainValidator(_parse_seed_or_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
                {"type": "string", "pattern": f"^{LATENT_ID.pattern}$"},
            ]
        }
    ),
]
"""What stands for a latent in an address."""


class LatentRequest(StrictModel):
    """A latent: exactly one of seed, z, w, id and mix.

    Class and truncation that are not given are those of the request; parts of a mix are not truncated on their own.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"seed": 7},
                {"mix": [{"latent": {"seed": 7}, "weight": 0.7}, {"latent": {"seed": 8}, "weight": 0.3}]},
            ]
        }
    )

    seed: Annotated[Integer, Field(ge=0, le=MAX_SEED)] | None = Field(None, description="seed of z")
    z: Vector | None = Field(
        None, description="`z_dim` numbers: an array, or base64 of little-endian float32", examples=[[0.5, -1.25]]
    )
    w: Vector | None = Field(
        None,
        description="`w_dim` numbers, or that many for each style (w+), flat or as rows; as `z` otherwise",
        examples=[[0.5, -1.25]],
    )
    id: LatentId | None = Field(None, description="id of a stored latent of the model, see POST /v1/latents")
    mix: list["WeightedRequest"] | None = Field(
        None, min_length=1, max_length=MAX_LATENTS, description="latents whose styles are averaged"
    )
    class_index: Class | None = Field(
        None, description="class, for a seed or z; also `class`", validation_alias=both_names("class_index")
    )
    truncation_psi: Psi | None = Field(
        None, description=f"{PSI}; also `psi`", validation_alias=both_names("truncation_psi")
    )
    truncation_cutoff: Cutoff | None = Field(
        None, description=f"{CUTOFF}; also `cutoff`", validation_alias=both_names("truncation_cutoff")
    )


class WeightedRequest(StrictModel):
    """A part of a mix."""

    latent: LatentRequest
    weight: Number = Field(1.0, description="weights are divided by their sum, which must not be 0", examples=[0.3])


LatentRequest.model_rebuild()  # for subclasses in other modules, which do not know WeightedRequest


class StylesRequest(StrictModel):
    """Layers that take their styles from another latent, which is truncated on its own."""

    layers: Layers
    latent: LatentRequest


DIRECTION = re.compile(f"{DIRECTION_NAME.pattern}|{LABEL.pattern}")
"""A direction's own name, or the one that an operator has given it."""


def _parse_direction(value: object) -> str | bytes:
    return value if isinstance(value, str) and DIRECTION.fullmatch(value) else _parse_vector(value)


_NAME_SCHEMA = {"type": "string", "pattern": f"^({DIRECTION.pattern})$"}


class EditRequest(StrictModel):
    """A step in w."""

    direction: Annotated[
        str | bytes,
        PlainValidator(_parse_direction),
        WithJsonSchema({"anyOf": [_NAME_SCHEMA, *_VECTOR_SCHEMA["anyOf"]]}),
    ] = Field(
        description="name of a direction of the model, whose step is one standard deviation of w; or `w_dim` numbers, "
        "or that many for each style, that are added as they are",
        examples=["sefa:2"],
    )
    amount: Number = Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT, description="factor of the step", examples=[1.5])
    layers: Layers | None = Field(
        None, description="styles that are changed; default: those of the direction, for numbers all"
    )
