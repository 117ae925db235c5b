"""What may be asked of a picture, in a body or in an address."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, HttpUrl, Strict

from model.spec import DEFAULT_QUALITY, MAX_SEED, PSI_BOUNDS, Format
from model.viewport import MAX_SIDE, REGION_BOUNDS, Grid
from service.outputs.order import DEFAULT_TILE, TILE_BOUNDS, TILE_STEP, Kind

MAX_NAME = 100
"""Longest name of a model."""

MAX_CUTOFF, MAX_CLASS = 100, 99_999
"""Beyond what any network has; its own limits are compared once it is known."""

_SIZE = (
    "pixels of the whole picture; default: equal to the other side, or the model's resolution where neither is given"
)
_PSI = "truncation ψ: 1 leaves a picture as drawn, 0 is the mean picture"
_CUTOFF = "truncate only so many of the first styles, at most the model's `styles`; default: all"
_CLASS = "class of a conditional model, from 0 to its `classes` − 1: needed there, refused elsewhere"
_REGION = (
    "x0, y0, x1, y1 with x0 < x1 and y0 < y1, from −1 to 2: what the whole picture shows of the unit square, y "
    "downwards; outside it the network extrapolates; default: the largest centred window of the picture's aspect, "
    "with the grid `corners` the full square"
)
_CROP = "x, y, w, h: draws only these pixels, which must lie inside the whole picture; default: all of it"
_GRID = (
    "`centers` samples the pixels' centres and averages where a picture is smaller than the network's own; "
    "`corners` samples as the original tools do"
)
_FORMAT = "file format; a JPEG has at most 65,500 pixels a side, a WebP 16,382"
_OUTPUT = (
    "`dzi`: a folder of tiles for viewers; `tiff`: one tiled BigTIFF that holds all smaller sizes, too, with `format` "
    "png (lossless) or jpeg; `png`: one file for everything else"
)
_TILE = f"side of the tiles in pixels, a multiple of {TILE_STEP}"
_WEBHOOK = "https:// address that is told of the job's end by a signed POST; needs CREPS_WEBHOOK_SECRETS"
_QUALITY = "of jpeg and webp, from 1 to 100; png is lossless"

# JSON tells whole numbers from fractions, and both from texts and true: so do we.
Integer = Annotated[int, Strict()]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

Side = Annotated[Integer, Field(ge=1, le=MAX_SIDE)]
Offset = Annotated[Integer, Field(ge=0, le=MAX_SIDE)]
Coordinate = Annotated[Number, Field(ge=REGION_BOUNDS[0], le=REGION_BOUNDS[1])]


class ImageRequest(BaseModel):
    """A picture. Every field has a default; unknown fields are refused."""

    model_config = ConfigDict(
        extra="forbid",
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
        None, description="which picture; default: a random one, told by X-Creps-Seed", examples=[2]
    )
    truncation_psi: Number = Field(1.0, ge=PSI_BOUNDS[0], le=PSI_BOUNDS[1], description=_PSI, examples=[0.7])
    truncation_cutoff: Annotated[Integer, Field(ge=0, le=MAX_CUTOFF)] | None = Field(None, description=_CUTOFF)
    class_index: Annotated[Integer, Field(ge=0, le=MAX_CLASS)] | None = Field(None, description=_CLASS)
    width: Side | None = Field(None, description=_SIZE, examples=[512])
    height: Side | None = Field(None, description=_SIZE, examples=[512])
    region: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = Field(
        None, description=_REGION, examples=[[0.25, 0.25, 0.75, 0.75]]
    )
    crop: tuple[Offset, Offset, Side, Side] | None = Field(None, description=_CROP, examples=[[0, 0, 256, 256]])
    grid: Grid = Field("centers", description=_GRID)
    format: Format = Field("png", description=_FORMAT)
    quality: Integer = Field(DEFAULT_QUALITY, ge=1, le=100, description=_QUALITY)


class JobRequest(ImageRequest):
    """A picture of any size, and what is to be made of it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"seed": 2, "width": 16384, "height": 16384, "truncation_psi": 0.7, "output": "dzi", "format": "jpeg"},
                {"seed": 2, "width": 65536, "height": 65536, "output": "tiff", "tile": 1024},
            ]
        },
    )

    output: Kind = Field("dzi", description=_OUTPUT)
    tile: Integer = Field(
        DEFAULT_TILE, ge=TILE_BOUNDS[0], le=TILE_BOUNDS[1], multiple_of=TILE_STEP, description=_TILE, examples=[512]
    )
    webhook: HttpUrl | None = Field(None, description=_WEBHOOK, examples=["https://example.org/hooks/creps"])


_DECIMAL = r"-?(\d{1,3}(\.\d{0,30})?|\.\d{1,30})([eE][-+]?\d{1,2})?"
_REGION_PATTERN = rf"^{_DECIMAL}(,{_DECIMAL}){{3}}$"
_CROP_PATTERN = r"^\d{1,6}(,\d{1,6}){3}$"


def _check_region(text: str) -> str:
    if not re.fullmatch(_REGION_PATTERN, text, re.ASCII):
        raise ValueError("must be four numbers x0,y0,x1,y1")
    return text


def _check_crop(text: str) -> str:
    if not re.fullmatch(_CROP_PATTERN, text, re.ASCII):
        raise ValueError("must be four whole numbers x,y,w,h of at most six digits")
    return text


class ImageQuery(BaseModel):
    """What an address says of a picture after the question mark; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    width: int | None = Field(None, ge=1, le=MAX_SIDE, description=_SIZE, examples=[512])
    height: int | None = Field(None, ge=1, le=MAX_SIDE, description=_SIZE, examples=[512])
    psi: float = Field(1.0, ge=PSI_BOUNDS[0], le=PSI_BOUNDS[1], allow_inf_nan=False, description=_PSI, examples=[0.7])
    cutoff: int | None = Field(None, ge=0, le=MAX_CUTOFF, description=_CUTOFF)
    class_index: int | None = Field(None, alias="class", ge=0, le=MAX_CLASS, description=_CLASS)
    region: Annotated[str, AfterValidator(_check_region)] | None = Field(
        None, description=_REGION, examples=["0.25,0.25,0.75,0.75"], json_schema_extra={"pattern": _REGION_PATTERN}
    )
    crop: Annotated[str, AfterValidator(_check_crop)] | None = Field(
        None, description=_CROP, examples=["0,0,256,256"], json_schema_extra={"pattern": _CROP_PATTERN}
    )
    grid: Grid = Field("centers", description=_GRID)
    quality: int = Field(DEFAULT_QUALITY, ge=1, le=100, description=_QUALITY)

    def to_request(self, model: str, seed: int, picture_format: Format) -> ImageRequest:
        """The same picture as a body would ask for it. The viewport has still to check region and crop."""
        return ImageRequest.model_construct(
            model=model,
            seed=seed,
            truncation_psi=self.psi,
            truncation_cutoff=self.cutoff,
            class_index=self.class_index,
            width=self.width,
            height=self.height,
            region=None if self.region is None else tuple(float(value) for value in self.region.split(",")),
            crop=None if self.crop is None else tuple(int(value) for value in self.crop.split(",")),
            grid=self.grid,
            format=picture_format,
            quality=self.quality,
        )


QUERY_NAMES = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class"}
"""Fields of ImageRequest that have another name in an address."""
