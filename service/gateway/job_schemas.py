"""What a request may say of a job, in a body."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, HttpUrl

from model.latents.latent import MAX_EDITS, MAX_LATENTS, MAX_SEED
from model.motion.pace import Pace
from model.motion.timeline import DEFAULT_EASING, DEFAULT_FRAME_RATE, FRAME_RATES, MAX_CELLS, MAX_KEYFRAMES, Easing
from model.motion.walk import WalkKind
from model.motion.zoom import Zoom
from service.gateway.latent_schemas import EditRequest, LatentRequest, StylesRequest
from service.gateway.schema_types import Class, Cutoff, Integer, Number, Psi, StrictModel, both_names
from service.gateway.schemas import Coordinate, ImageRequest
from service.gateway.transform_schema import Transforms
from service.imaging.export_spec import DEFAULT_TILE, TILE_BOUNDS, TILE_STEP
from service.imaging.order import OrderKind

MAX_LABELS = 16

_OUTPUT = (
    "`dzi`: a folder of tiles for viewers; `tiff`: one tiled BigTIFF with all smaller sizes and `format` png "
    "(lossless), jpeg or, with `bits` 16 or 32, tiff; `png`: one file for everything else, of 8 or 16 `bits`; of "
    "`keyframes` a video: `mp4` (H.264), `webm` (VP9), `apng`, `webp` (animated pictures) or `ffv1` "
    "(lossless, in Matroska)"
)
_TILE = f"side of the tiles in pixels, a multiple of {TILE_STEP}"
_WEBHOOK = "https:// address that gets a signed POST when the job ends; needs CREPS_WEBHOOK_SECRETS"
_LABELS = (
    f"names and texts of your own, returned with the job: at most {MAX_LABELS}, names of 1 to 63 letters, digits, `.`, "
    "`_` and `-`, texts of at most 255 characters"
)
_KEYFRAMES = "of a video: what it shows at which time; see docs/video.md"
_LOOP = "the last keyframe is the first again, and not shown twice: a video that repeats without a jump"
_CELLS = "columns x rows of a grid of videos; `latents` of keyframes then have one latent for each cell"
_ZOOM = "`direct` holds one place fixed until the next keyframe; `smooth` zooms out on the way to another place"
_WALK = "between latents: `w`, a spline through their styles; `z`, great circles, for seeds and z"
_PACE = "`perceived`: equally much changes from each frame to the next; times then only order keyframes"
_TRANSFORM = "as the job's; kinds must be those of the keyframes before and after, which may have fewer"


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have printable characters only")
    return value


LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,63}$")]
LabelValue = Annotated[str, Field(max_length=255), AfterValidator(_check_printable)]


class KeyframeRequest(StrictModel):
    """What a video shows at a time. What is not given is as in the job."""

    time: Number = Field(ge=0, le=86_400, description="seconds from the start; that of the first is 0", examples=[1.5])
    easing: Easing = Field(DEFAULT_EASING, description="how the time to the next keyframe passes")
    zoom: Zoom = Field("direct", description=_ZOOM)
    seed: Annotated[Integer, Field(ge=0, le=MAX_SEED)] | None = Field(None, description="seed", examples=[2])
    latent: LatentRequest | None = Field(None, description="in place of a seed")
    latents: list[LatentRequest] | None = Field(
        None, min_length=1, max_length=MAX_CELLS, description="one for each of the job's `cells`, row by row"
    )
    styles: list[StylesRequest] | None = Field(None, max_length=MAX_LATENTS, description="style mixing")
    edits: list[EditRequest] | None = Field(None, max_length=MAX_EDITS, description="steps in w")
    truncation_psi: Psi | None = Field(
        None, description="truncation ψ; also `psi`", validation_alias=both_names("truncation_psi")
    )
    truncation_cutoff: Cutoff | None = Field(
        None, description="truncated styles; also `cutoff`", validation_alias=both_names("truncation_cutoff")
    )
    class_index: Class | None = Field(
        None, description="class; also `class`", validation_alias=both_names("class_index")
    )
    region: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = Field(
        None, description="zooms hold their target fixed", examples=[[0.25, 0.25, 0.75, 0.75]]
    )
    transform: Transforms | None = Field(None, description=_TRANSFORM, examples=[[{"rotate": 30}]])


class JobRequest(ImageRequest):
    """An image of any size, or a video, and the output to write."""

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
                {
                    "seed": 2,
                    "width": 512,
                    "height": 512,
                    "output": "mp4",
                    "keyframes": [{"time": 0}, {"time": 2, "region": [0.3, 0.35, 0.5, 0.55]}],
                },
            ]
        },
    )

    output: OrderKind = Field("dzi", description=_OUTPUT)
    tile: Integer = Field(
        DEFAULT_TILE, ge=TILE_BOUNDS[0], le=TILE_BOUNDS[1], multiple_of=TILE_STEP, description=_TILE, examples=[512]
    )
    keyframes: list[KeyframeRequest] | None = Field(
        None, min_length=2, max_length=MAX_KEYFRAMES, description=_KEYFRAMES
    )
    fps: Number = Field(
        DEFAULT_FRAME_RATE, ge=FRAME_RATES[0], le=FRAME_RATES[1], description="frames per second of a video"
    )
    loop: bool = Field(False, strict=True, description=_LOOP)
    walk: WalkKind = Field("w", description=_WALK)
    pace: Pace = Field("time", description=_PACE)
    cells: str | None = Field(None, pattern=r"^[1-9][0-9]?x[1-9][0-9]?$", description=_CELLS, examples=["3x2"])
    webhook: HttpUrl | None = Field(None, description=_WEBHOOK, examples=["https://example.org/hooks/creps"])
    labels: dict[LabelName, LabelValue] = Field({}, max_length=MAX_LABELS, description=_LABELS)

    def first_changed(self, names: Iterable[str]) -> str | None:
        """The first of some fields that does not have its default, which generated clients send, too."""
        return next((name for name in names if getattr(self, name) != JobRequest.model_fields[name].default), None)
