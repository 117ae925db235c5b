"""What a request may say of an image, in a body or in an address."""

import re
from typing import Annotated, ClassVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from model.geometry.outside import Outside
from model.geometry.wrap import BLENDS, DEFAULT_BLEND, Axes, WrapMode
from model.latents.latent import MAX_EDITS, MAX_LATENTS, MAX_SEED, PSI_BOUNDS
from model.spec import DEFAULT_QUALITY, Metadata
from model.viewport import MAX_SIDE, REGION_BOUNDS, Grid
from service.gateway.latent_schemas import EditRequest, LatentRequest, SeedOrId, StylesRequest
from service.gateway.schema_types import (
    CUTOFF,
    MAX_CUTOFF,
    MAX_NAME,
    PSI,
    AnyFormat,
    Class,
    Cutoff,
    Integer,
    Number,
    Psi,
    QueryInteger,
    QueryNumber,
    Seeds,
    StrictModel,
    both_names,
)
from service.gateway.transform_schema import DESCRIPTION, QueryTransforms, Transforms
from service.models.catalog import DEMO_NAME

_SIZE = "pixels of the whole image; default: equal to the other side, or the model's resolution if neither is given"
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
_FORMAT = (
    "file format, `jpg` as `jpeg`; a JPEG has at most 65,500 pixels a side, a WebP 16,382, an AVIF 65,536; "
    "tiles of jobs, sheets and strips are `png`, `jpeg` or `webp`, those of a `tiff` of 16 or 32 bits also `tiff`"
)
_BITS = (
    "of a number: `png` 8 or 16, `avif` 8 or 10, `jxl` 8, 16 or 32, `tiff` 16 or 32, `npy` 32, the others 8; 32 are "
    "float32; default: the first of these"
)
_METADATA = "`full`: the file tells how it was made, see `creps info`; `none`: it holds pixels alone"
_QUALITY = "of jpeg, webp, avif and jxl, from 1 to 100; the others, and jxl at 100, are lossless"
_LATENT = "input of the network in another form than a seed, see the fields of LatentRequest; excludes `seed`"
_STYLES = "style mixing: layers that take their styles from other latents; later ones win"
_EDITS = "steps in w that are added to the styles"

Bits = Annotated[Integer, WithJsonSchema({"type": "integer", "enum": [8, 10, 16, 32]})]
Side = Annotated[Integer, Field(ge=1, le=MAX_SIDE)]
Offset = Annotated[Integer, Field(ge=0, le=MAX_SIDE)]
Coordinate = Annotated[Number, Field(ge=REGION_BOUNDS[0], le=REGION_BOUNDS[1])]


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
    latent: LatentRequest | None = Field(None, description=_LATENT)
    styles: list[StylesRequest] = Field([], max_length=MAX_LATENTS, description=_STYLES)
    edits: list[EditRequest] = Field([], max_length=MAX_EDITS, description=_EDITS)
    truncation_psi: Psi = Field(
        1.0, description=f"{PSI}; also `psi`", examples=[0.7], validation_alias=both_names("truncation_psi")
    )
    truncation_cutoff: Cutoff | None = Field(
        None, description=f"{CUTOFF}; also `cutoff`", validation_alias=both_names("truncation_cutoff")
    )
    class_index: Class | None = Field(
        None, description=f"{_CLASS}; also `class`", validation_alias=both_names("class_index")
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
    bits: Bits | None = Field(None, description=_BITS, examples=[16])
    metadata: Metadata = Field("full", description=_METADATA)


class StoreRequest(LatentRequest):
    """A latent to store, with what is changed in it."""

    styles: list[StylesRequest] = Field([], max_length=MAX_LATENTS, description=_STYLES)
    edits: list[EditRequest] = Field([], max_length=MAX_EDITS, description=_EDITS)

    def to_request(self) -> ImageRequest:
        """The image of the latent, whose class and truncation hold for its styles, too."""
        inherited = ("class_index", "truncation_psi", "truncation_cutoff")
        source = LatentRequest(**{name: getattr(self, name) for name in ("seed", "z", "w", "id", "mix")})
        given = {name: getattr(self, name) for name in inherited if getattr(self, name) is not None}
        return ImageRequest(latent=source, styles=self.styles, edits=self.edits, **given)


class ImagesRequest(ImageRequest):
    """An image or, with `seeds`, several."""

    seeds: Seeds | None = Field(
        None,
        description="several images that differ in their seeds, such as `[3, 7, 40]` or `0-15,40`, in a zip, "
        "multipart/mixed or one contact sheet, as `Accept` says; excludes `seed` and `latent`",
        examples=["0-15,40", [3, 7, 40]],
    )


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


class LatentPath(BaseModel):
    """The path of a latent's address."""

    model: str = Field(
        max_length=MAX_NAME,
        description="name or digest of a model; images by digest may be cached for ever",
        examples=[DEMO_NAME],
    )
    seed: SeedOrId = Field(description="seed, or id of a stored latent", examples=[2])


class LatentQuery(StrictModel):
    """The query of a latent's address. Unknown parameters are refused."""

    latent: ClassVar[None] = None
    styles: ClassVar[tuple[()]] = ()
    edits: ClassVar[tuple[()]] = ()

    truncation_psi: QueryNumber = Field(
        1.0,
        ge=PSI_BOUNDS[0],
        le=PSI_BOUNDS[1],
        description=f"{PSI}; also `truncation_psi`",
        examples=[0.7],
        validation_alias=both_names("truncation_psi", short_first=True),
    )
    truncation_cutoff: QueryInteger | None = Field(
        None,
        ge=0,
        le=MAX_CUTOFF,
        description=f"{CUTOFF}; also `truncation_cutoff`",
        validation_alias=both_names("truncation_cutoff", short_first=True),
    )
    class_index: Class | None = Field(
        None, description=f"{_CLASS}; also `class_index`", validation_alias=both_names("class_index", short_first=True)
    )


class LatentAddress(LatentQuery, LatentPath):
    """Path and query of a latent's address."""

    def name_of(self, field: str) -> str:
        return "seed" if field == "latent.id" else super().name_of(field)

    def to_request(self) -> ImageRequest:
        """The same image or latent as a request body. Region and crop are checked by Viewport."""
        if isinstance(self.seed, int):
            return cast(ImageRequest, self)  # it has the same fields
        latent = LatentRequest.model_construct(id=self.seed)
        return ImageRequest.model_construct(**dict(self) | {"seed": None, "latent": latent})


class ImagePath(LatentPath):
    """The path of an image's address."""

    format: AnyFormat = Field(description="file format, `jpg` as `jpeg`", examples=["jpeg"])


class ImageQuery(LatentQuery):
    """The query of an image's address: fields of ImageRequest, some under shorter names. Unknown ones are refused."""

    width: QueryInteger | None = Field(None, ge=1, le=MAX_SIDE, description=_SIZE, examples=[512])
    height: QueryInteger | None = Field(None, ge=1, le=MAX_SIDE, description=_SIZE, examples=[512])
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
    bits: QueryInteger | None = Field(None, description=_BITS, json_schema_extra={"enum": [8, 10, 16, 32]})
    metadata: Metadata = Field("full", description=_METADATA)


class ImageAddress(ImageQuery, ImagePath, LatentAddress):
    """Path and query of an image's address."""
