"""What a request may say of an image, in a body or in an address."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    ModelWrapValidatorHandler,
    PlainValidator,
    Strict,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from model.geometry.outside import Outside
from model.geometry.wrap import BLENDS, DEFAULT_BLEND, Axes, WrapMode
from model.latents.latent import MAX_SEED, PSI_BOUNDS
from model.spec import DEFAULT_QUALITY, Format, Metadata
from model.viewport import MAX_SIDE, REGION_BOUNDS, Grid
from service.gateway.transform_schema import DESCRIPTION, QueryTransforms, Transforms
from service.imaging.encode import FORMATS_BY_SUFFIX
from service.imaging.export_spec import DEFAULT_TILE, TILE_BOUNDS, TILE_STEP, Kind
from service.models.catalog import DEMO_NAME

MAX_NAME = 100
"""Longest name of a model or a class."""

MAX_CUTOFF, MAX_CLASS = 100, 99_999
"""Above those of any network; the limits of the model are checked once it is known."""

MAX_LABELS = 16

SHORT_NAMES = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class"}
"""Names in addresses of some fields of ImageRequest. Bodies and addresses take both names."""

_SIZE = "pixels of the whole image; default: equal to the other side, or the model's resolution if neither is given"
_PSI = "truncation ψ: 1 for none, 0 for the average image"
_CUTOFF = "truncate only this number of styles, from the first, at most the model's `styles`; default: all"
_CLASS = (
    "class of a conditional model, from 0 to its `classes` − 1, or one of its `class_names`: required there, refused "
    "elsewhere"
)
_REGION = (
    "x0, y0, x1, y1 with x0 < x1 and y0 < y1, from −1 to 2: the part of the unit square that the whole image shows, y "
    "downwards; outside it the network extrapolates; default: the largest centred window of the image's aspect, "
    "with the grid `corners` the full square"
)
_CROP = "x, y, w, h: render only these pixels, which must lie inside the whole image; default: all of it"
_GRID = (
    "`centers` samples pixel centres, and averages if the image is smaller than the network's resolution; "
    "`corners` samples as the original tools do"
)
_OUTSIDE = (
    "what is shown outside of the picture's unit square: `extend`: the network goes on, as far as a region may; "
    "`clamp`: its edge; `mirror`, `wrap`: the picture again; `fill`: black"
)
_WRAP = "`x`, `y`, `xy`: the picture repeats along these axes without a seam; see docs/geometry.md"
_WRAP_MODE = "`blend` blends the end of a period with what lies before its beginning; `mirror` mirrors every other one"
_WRAP_BLEND = "part of the period that is blended"
_FORMAT = "file format, `jpg` as `jpeg`; a JPEG has at most 65,500 pixels a side, a WebP 16,382"
_OUTPUT = (
    "`dzi`: a folder of tiles for viewers; `tiff`: one tiled BigTIFF with all smaller sizes and `format` png "
    "(lossless) or jpeg; `png`: one file for everything else"
)
_TILE = f"side of the tiles in pixels, a multiple of {TILE_STEP}"
_WEBHOOK = "https:// address that gets a signed POST when the job ends; needs CREPS_WEBHOOK_SECRETS"
_METADATA = "`full`: the file tells how it was made, see `creps info`; `none`: it holds pixels alone"
_LABELS = (
    f"names and texts of your own, returned with the job: at most {MAX_LABELS}, names of 1 to 63 letters, digits, `.`, "
    "`_` and `-`, texts of at most 255 characters"
)
_QUALITY = "of jpeg and webp, from 1 to 100; png is lossless"


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
    return FORMATS_BY_SUFFIX.get(value.lower(), value.lower()) if isinstance(value, str) else value


# In a body, numbers are not strings or booleans.
Integer = Annotated[int, Strict(), BeforeValidator(_parse_integer)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

# In an address, they may have spaces around them and a plus sign, which is one of the spaces if it is not quoted.
QueryInteger = Annotated[int, BeforeValidator(_refuse_underscores)]
QueryNumber = Annotated[float, BeforeValidator(_refuse_underscores), Field(allow_inf_nan=False)]

AnyFormat = Annotated[Format, BeforeValidator(_parse_format)]


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

Side = Annotated[Integer, Field(ge=1, le=MAX_SIDE)]
Offset = Annotated[Integer, Field(ge=0, le=MAX_SIDE)]
Coordinate = Annotated[Number, Field(ge=REGION_BOUNDS[0], le=REGION_BOUNDS[1])]


def _both_names(field: str, *, short_first: bool = False) -> AliasChoices:
    """Both names of a field. The first one is in the OpenAPI description."""
    names = [SHORT_NAMES[field], field] if short_first else [field, SHORT_NAMES[field]]
    return AliasChoices(*names)


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
            details["type"] = PydanticCustomError("unknown_field", cls._describe_unknown(str(error["loc"][-1])))
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


class ImageRequest(StrictModel):
    """An image. Every field has a default; unknown fields are refused."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"seed": 2, "width": 512, "height": 512, "truncation_psi": 0.7, "format": "jpeg"},
                {"seed": 2, "width": 4096, "height": 4096, "crop": [1024, 1024, 512, 512]},
            ]
        },
    )

    model: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_NAME,
        description="name or digest of a model, see /v1/models; default: the only one, or `demo`",
        examples=["demo"],
    )
    seed: Annotated[Integer, Field(ge=0, le=MAX_SEED)] | None = Field(
        None, description="seed of the image; default: a random one, see X-Creps-Seed", examples=[2]
    )
    truncation_psi: Number = Field(
        1.0,
        ge=PSI_BOUNDS[0],
        le=PSI_BOUNDS[1],
        description=f"{_PSI}; also `psi`",
        examples=[0.7],
        validation_alias=_both_names("truncation_psi"),
    )
    truncation_cutoff: Annotated[Integer, Field(ge=0, le=MAX_CUTOFF)] | None = Field(
        None, description=f"{_CUTOFF}; also `cutoff`", validation_alias=_both_names("truncation_cutoff")
    )
    class_index: Class | None = Field(
        None, description=f"{_CLASS}; also `class`", validation_alias=_both_names("class_index")
    )
    width: Side | None = Field(None, description=_SIZE, examples=[512])
    height: Side | None = Field(None, description=_SIZE, examples=[512])
    region: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = Field(
        None, description=_REGION, examples=[[0.25, 0.25, 0.75, 0.75]]
    )
    crop: tuple[Offset, Offset, Side, Side] | None = Field(None, description=_CROP, examples=[[0, 0, 256, 256]])
    grid: Grid = Field("centers", description=_GRID)
    transform: Transforms = Field((), description=DESCRIPTION, examples=[[{"rotate": 30}, {"scale": 1.2}]])
    outside: Outside = Field("extend", description=_OUTSIDE)
    wrap: Axes | None = Field(None, description=_WRAP)
    wrap_mode: WrapMode = Field("blend", description=_WRAP_MODE)
    wrap_blend: Number = Field(DEFAULT_BLEND, ge=BLENDS[0], le=BLENDS[1], description=_WRAP_BLEND)
    format: AnyFormat = Field("png", description=_FORMAT)
    quality: Integer = Field(DEFAULT_QUALITY, ge=1, le=100, description=_QUALITY)
    metadata: Metadata = Field("full", description=_METADATA)


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have printable characters only")
    return value


LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,63}$")]
LabelValue = Annotated[str, Field(max_length=255), AfterValidator(_check_printable)]


class JobRequest(ImageRequest):
    """An image of any size, and the output to write."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"seed": 2, "width": 16384, "height": 16384, "truncation_psi": 0.7, "output": "dzi", "format": "jpeg"},
                {
                    "seed": 2,
                    "width": 65536,
                    "height": 65536,
                    "output": "tiff",
                    "tile": 1024,
                    "labels": {"project": "posters"},
                },
            ]
        },
    )

    output: Kind = Field("dzi", description=_OUTPUT)
    tile: Integer = Field(
        DEFAULT_TILE, ge=TILE_BOUNDS[0], le=TILE_BOUNDS[1], multiple_of=TILE_STEP, description=_TILE, examples=[512]
    )
    webhook: HttpUrl | None = Field(None, description=_WEBHOOK, examples=["https://example.org/hooks/creps"])
    labels: dict[LabelName, LabelValue] = Field({}, max_length=MAX_LABELS, description=_LABELS)


_DECIMAL = r" *[-+]?(\d{1,3}(\.\d{0,30})?|\.\d{1,30})([eE][-+]?\d{1,2})? *"
_REGION_PATTERN = rf"^{_DECIMAL}(,{_DECIMAL}){{3}}$"
_PIXELS = r" *\+?\d{1,6}(\.0*)? *"
_CROP_PATTERN = rf"^{_PIXELS}(,{_PIXELS}){{3}}$"


def _parse_region(text: str) -> tuple[float, ...]:
    if not re.fullmatch(_REGION_PATTERN, text, re.ASCII):
        raise ValueError("must be four numbers x0,y0,x1,y1")
    return tuple(float(value) for value in text.split(","))


def _parse_crop(text: str) -> tuple[int, ...]:
    if not re.fullmatch(_CROP_PATTERN, text, re.ASCII):
        raise ValueError("must be four integers x,y,w,h of at most six digits")
    return tuple(int(float(value)) for value in text.split(","))


class ImagePath(BaseModel):
    """The path of an image's address."""

    model: str = Field(
        max_length=MAX_NAME,
        description="name or digest of a model; images by digest may be cached for ever",
        examples=[DEMO_NAME],
    )
    seed: QueryInteger = Field(ge=0, le=MAX_SEED, description="seed of the image", examples=[2])
    format: AnyFormat = Field(description="file format, `jpg` as `jpeg`")


class ImageQuery(StrictModel):
    """The query of an image's address: fields of ImageRequest, some under shorter names. Unknown ones are refused."""

    width: QueryInteger | None = Field(None, ge=1, le=MAX_SIDE, description=_SIZE, examples=[512])
    height: QueryInteger | None = Field(None, ge=1, le=MAX_SIDE, description=_SIZE, examples=[512])
    truncation_psi: QueryNumber = Field(
        1.0,
        ge=PSI_BOUNDS[0],
        le=PSI_BOUNDS[1],
        description=f"{_PSI}; also `truncation_psi`",
        examples=[0.7],
        validation_alias=_both_names("truncation_psi", short_first=True),
    )
    truncation_cutoff: QueryInteger | None = Field(
        None,
        ge=0,
        le=MAX_CUTOFF,
        description=f"{_CUTOFF}; also `truncation_cutoff`",
        validation_alias=_both_names("truncation_cutoff", short_first=True),
    )
    class_index: Class | None = Field(
        None, description=f"{_CLASS}; also `class_index`", validation_alias=_both_names("class_index", short_first=True)
    )
    # Annotated as strings, and parsed into tuples: FastAPI would read a tuple from repeated parameters.
    region: Annotated[str, AfterValidator(_parse_region)] | None = Field(
        None, description=_REGION, examples=["0.25,0.25,0.75,0.75"], json_schema_extra={"pattern": _REGION_PATTERN}
    )
    crop: Annotated[str, AfterValidator(_parse_crop)] | None = Field(
        None, description=_CROP, examples=["0,0,256,256"], json_schema_extra={"pattern": _CROP_PATTERN}
    )
    grid: Grid = Field("centers", description=_GRID)
    transform: QueryTransforms = Field((), description=f"JSON: {DESCRIPTION}", examples=['[{"rotate": 30}]'])
    outside: Outside = Field("extend", description=_OUTSIDE)
    wrap: Axes | None = Field(None, description=_WRAP)
    wrap_mode: WrapMode = Field("blend", description=_WRAP_MODE)
    wrap_blend: QueryNumber = Field(DEFAULT_BLEND, ge=BLENDS[0], le=BLENDS[1], description=_WRAP_BLEND)
    quality: QueryInteger = Field(DEFAULT_QUALITY, ge=1, le=100, description=_QUALITY)
    metadata: Metadata = Field("full", description=_METADATA)


class ImageAddress(ImageQuery, ImagePath):
    """Path and query of an image's address."""

    def to_request(self) -> ImageRequest:
        """The same image as a request body. Region and crop are checked by Viewport."""
        return cast(ImageRequest, self)  # it has the same fields
