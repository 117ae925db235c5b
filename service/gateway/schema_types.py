"""Types and the base class of what requests may say, in bodies and in addresses."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from model.errors import InputError
from model.latents.latent import MAX_SEED, PSI_BOUNDS
from model.latents.ranges import MAX_SEEDS, parse_seeds
from model.spec import Format, ImageFormat
from service.imaging.encode import IMAGE_FORMATS_BY_SUFFIX

MAX_NAME = 100
"""Longest name of a model or a class."""

MAX_CUTOFF, MAX_CLASS = 100, 99_999
"""Above those of any network; the limits of the model are checked once it is known."""

SHORT_NAMES = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class"}
"""Names in addresses of some fields. Bodies and addresses take both names."""

PSI = "truncation ψ: 1 for none, 0 for the average image"
CUTOFF = "truncate only this number of styles, from the first, at most the model's `styles`; default: all"


def _parse_integer(value: object) -> object:
    """64.0 as 64: some languages write all numbers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse_underscores(value: object) -> object:
    """As in JSON. pydantic reads 6_4 as 64."""
    if isinstance(value, str) and "_" in value:
        raise ValueError("must be a number in decimal notation")
    return value


def _parse_format(value: object) -> object:
    """jpg and JPEG as jpeg."""
    return IMAGE_FORMATS_BY_SUFFIX.get(value.lower(), value.lower()) if isinstance(value, str) else value


# In a body, numbers are not strings or booleans.
Integer = Annotated[int, Strict(), BeforeValidator(_parse_integer)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

# In an address, they may have spaces around them and a plus sign, which is one of the spaces if it is not quoted.
QueryInteger = Annotated[int, BeforeValidator(_refuse_underscores)]
QueryNumber = Annotated[float, BeforeValidator(_refuse_underscores), Field(allow_inf_nan=False)]

CommonFormat = Annotated[Format, BeforeValidator(_parse_format)]
AnyFormat = Annotated[ImageFormat, BeforeValidator(_parse_format)]


def _parse_class(value: object) -> int | str:
    value = _parse_integer(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be the number or the name of a class")
    number = int(value) if isinstance(value, int) or re.fullmatch("[0-9]{1,9}", value) else None
    if number is not None and not 0 <= number <= MAX_CLASS:
        raise ValueError(f"must be from 0 to {MAX_CLASS}")
    if isinstance(value, str) and not 1 <= len(value) <= MAX_NAME:
        raise ValueError(f"must be a name of 1 to {MAX_NAME} characters")
    return value if number is None else number


_CLASS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": MAX_CLASS},
        {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    ]
}
Class = Annotated[int | str, PlainValidator(_parse_class), WithJsonSchema(_CLASS_SCHEMA)]
"""Digits are a number, also in a string."""


def _parse_seeds(value: object) -> tuple[int, ...]:
    if isinstance(value, str):
        try:
            return parse_seeds("seeds", value)
        except InputError as error:
            raise ValueError(error.message) from None
    if not isinstance(value, list):
        raise ValueError("must be a list of seeds, or numbers and ranges in a string like 0-3,7")
    if not 1 <= len(value) <= MAX_SEEDS:
        raise ValueError(f"must be a list of 1 to {MAX_SEEDS} seeds, not {len(value)}")
    seeds = [_parse_integer(seed) for seed in value]
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"must be integers from 0 to {MAX_SEED}, not {seed!r:.40}")
    return tuple(seeds)  # type: ignore[arg-type]


_SEEDS_SCHEMA = {
    "anyOf": [
        {
            "type": "string",
            "maxLength": 4096,
            "pattern": r"^[0-9]{1,10}(-[0-9]{1,10})?(,[0-9]{1,10}(-[0-9]{1,10})?)*$",
        },
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
            "minItems": 1,
            "maxItems": MAX_SEEDS,
        },
    ]
}
Seeds = Annotated[tuple[int, ...], PlainValidator(_parse_seeds), WithJsonSchema(_SEEDS_SCHEMA)]
"""A list, or ranges as StyleGAN's tools write them."""


Psi = Annotated[Number, Field(ge=PSI_BOUNDS[0], le=PSI_BOUNDS[1])]
Cutoff = Annotated[Integer, Field(ge=0, le=MAX_CUTOFF)]


def both_names(field: str, *, short_first: bool = False) -> AliasChoices:
    """Both names of a field. The first one is in the OpenAPI description."""
    names = [SHORT_NAMES[field], field] if short_first else [field, SHORT_NAMES[field]]
    return AliasChoices(*names)


_UNKNOWN: Any = "unknown_field"
"""Type of the errors that StrictModel explains; pydantic's stubs want a literal."""


class StrictModel(BaseModel):
    """Refuses unknown fields, with the name that may be meant, and a field that is given under both of its names."""

    model_config = ConfigDict(extra="forbid")

    _given: frozenset[str] = frozenset()

    def name_of(self, field: str) -> str:
        """The name under which the client gave a field; the first one if it did not."""
        info = type(self).model_fields.get(field)
        if info is None or not isinstance(info.validation_alias, AliasChoices):
            return field
        names = [str(choice) for choice in info.validation_alias.choices]
        return next((name for name in names if name in self._given), names[0])

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_names(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            model = handler(data)
            if isinstance(data, dict):
                model._given = frozenset(data)
            return model
        except ValidationError as invalid:
            errors = invalid.errors()
            if all(error["type"] != "extra_forbidden" for error in errors):
                raise
            raise ValidationError.from_exception_data(cls.__name__, [cls._explain(error) for error in errors]) from None

    @classmethod
    def _explain(cls, error: Any) -> InitErrorDetails:
        details = InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"], ctx=error.get("ctx", {}))
        if error["type"] == "extra_forbidden":
            details["type"] = PydanticCustomError(_UNKNOWN, cls._describe_unknown(str(error["loc"][-1])))
        elif error["type"] == _UNKNOWN:  # of a model within this one
            details["type"] = PydanticCustomError(_UNKNOWN, error["msg"])
        return details

    @classmethod
    def _describe_unknown(cls, name: str) -> Any:
        """The message for a name that no field has, or for the second name of a field."""
        choices = [field.validation_alias for field in cls.model_fields.values()]
        both = [choice.choices for choice in choices if isinstance(choice, AliasChoices) and name in choice.choices]
        if both:
            return f"means the same as {next(other for other in both[0] if other != name)}: give one of them"
        names = [*cls.model_fields, *(SHORT_NAMES[field] for field in SHORT_NAMES if field in cls.model_fields)]
        close = get_close_matches(name.lower()[:MAX_NAME], names, n=1)
        return f"is unknown; did you mean {close[0]}?" if close else "is unknown"
