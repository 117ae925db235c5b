"""The description of a job in responses, events and webhooks."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from model.geometry.outside import Outside
from model.geometry.wrap import Axes
from model.spec import ImageFormat
from service.gateway.middleware.auth import key_of, owner_of
from service.gateway.state import AppState, CurrentAppState
from service.imaging.order import Order, OrderKind
from service.imaging.video_spec import VideoSpec
from service.jobs.pace import Mark, seconds_left
from service.jobs.repository import NoSuchJobError
from service.jobs.status import State, Status, WebhookState

ID_PATTERN = "^[0-9a-f]{32}$"

ASSEMBLY_SHARE = 0.1
"""Of the progress of a job with a single file: writing the tiles into it. On a CPU it takes less, on a GPU more."""

ASSEMBLY_RATES = {"png": 30e6}
FAST_ASSEMBLY = 1e9
"""Pixels per second that are written into a file, until the rate of the job itself is known (BENCHMARKS.md): a PNG
is encoded again, a TIFF takes tiles as they are, a video encoded frames."""

ID_SCHEMA: dict[str, Any] = {"pattern": ID_PATTERN}
"""In the OpenAPI description only: an id of another form is that of no job."""

JobId = Annotated[str, Path(description="the job's id", examples=["0" * 32], json_schema_extra=ID_SCHEMA)]


class Links(BaseModel):
    self: str
    events: str = Field(description="progress as server-sent events")
    output: str = Field(description="the finished file; for Deep Zoom the .dzi, which viewers on all sites may open")
    iiif: str | None = Field(description="the finished image for IIIF viewers; only for Deep Zoom")


_EXAMPLE: dict[str, Any] = {
    "id": "0" * 32,
    "state": "running",
    "error": None,
    "output": "dzi",
    "tile": 512,
    "model": "9f" * 32,
    "model_name": "demo",
    "seed": 2,
    "truncation_psi": 0.7,
    "class_index": None,
    "width": 16384,
    "height": 16384,
    "region": [0.0, 0.0, 1.0, 1.0],
    "transform": [],
    "outside": "extend",
    "wrap": None,
    "format": "jpeg",
    "quality": 90,
    "bits": 8,
    "frames": None,
    "fps": None,
    "tiles_done": 273,
    "tiles_total": 1375,
    "progress": 0.2,
    "eta_seconds": 91.5,
    "created": "2026-11-29T12:00:00Z",
    "started": "2026-11-29T12:00:01Z",
    "finished": None,
    "webhook": None,
    "labels": {"project": "posters"},
    "links": {
        "self": f"http://127.0.0.1:8000/v1/jobs/{'0' * 32}",
        "events": f"http://127.0.0.1:8000/v1/jobs/{'0' * 32}/events",
        "output": f"http://127.0.0.1:8000/v1/jobs/{'0' * 32}/output/picture.dzi",
        "iiif": f"http://127.0.0.1:8000/iiif/3/job:{'0' * 32}/info.json",
    },
}


class JobStatus(BaseModel):
    """A job and its progress."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    state: State
    error: str | None = Field(description="why it failed")
    output: OrderKind
    tile: int | None = Field(description="side of the tiles in pixels; null for a video")
    model: str = Field(description="digest of the checkpoint")
    model_name: str | None = Field(description="its name when the job was ordered; null for jobs of earlier versions")
    seed: int | None = Field(description="null if the image has another latent, styles or edits")
    truncation_psi: float
    class_index: int | None
    width: int
    height: int
    region: tuple[float, float, float, float] = Field(
        description="the part of the unit square that it shows; of a video, its first frame"
    )
    transform: list[dict[str, Any]] = Field(
        description="what moves the picture, as ordered; of a video, its first frame"
    )
    outside: Outside
    wrap: Axes | None = Field(description="axes along which the picture repeats")
    format: ImageFormat | None = Field(description="of the tiles; null for a video")
    quality: int | None
    bits: int | None = Field(description="of a number; null for a video")
    frames: int | None = Field(description="of a video; else null")
    fps: float | None = Field(description="frames per second of a video; else null")
    tiles_done: int = Field(description="tiles of all levels, or groups of frames of a video, that are in the store")
    tiles_total: int
    progress: float = Field(ge=0, le=1, description="fraction of the work that is done")
    eta_seconds: float | None = Field(description="estimated time until it is finished; null until enough is known")
    created: datetime
    started: datetime | None
    finished: datetime | None
    webhook: WebhookState | None = Field(
        description="whether the webhook was told of the end, once there is one to tell of"
    )
    labels: dict[str, str] = Field(description="as given by the client")
    links: Links


class Jobs(BaseModel):
    jobs: list[JobStatus]
    total: int = Field(
        description="number of all jobs on all pages, of the requested state if there is one", examples=[1]
    )
    next: str | None = Field(
        description="`after` of the next page; null on the last one, and with `offset`", examples=[None]
    )


def visible_owner(request: Request, app_state: AppState) -> str | None:
    """The owner whose jobs a request may see; None for the jobs of all."""
    key = key_of(request)
    return None if key is None or key.all_jobs or app_state.settings.shared_jobs else owner_of(request)


async def find_job(job_id: str, request: Request, app_state: AppState) -> Status:
    """Find a job. Raises NoSuchJobError, also for a job of another owner. A job without an owner was ordered while no
    key was needed, or before jobs had owners: who knows its id may see it."""
    if not re.fullmatch(ID_PATTERN, job_id, re.ASCII):
        raise NoSuchJobError
    status = await app_state.jobs.status(job_id)
    owner = visible_owner(request, app_state)
    if None not in (owner, status.job.owner) and owner != status.job.owner:
        raise NoSuchJobError
    return status


async def _status_of_path(job_id: JobId, request: Request, app_state: CurrentAppState) -> Status:
    return await find_job(job_id, request, app_state)


StatusOfPath = Annotated[Status, Depends(_status_of_path)]
"""The job whose id is in the path. Raises UnknownJobError."""


async def describe(status: Status, base: str, app_state: AppState) -> JobStatus:
    """Describe a job. ``base`` is the service's address as the client sees it, without a trailing slash."""
    export, spec = status.job.export, status.job.export.spec
    latent, viewport, (width, height) = spec.latent, spec.viewport, export.size
    return JobStatus(
        id=status.job.id,
        state=status.state,
        error=status.error,
        output=export.kind,
        model=spec.model,
        model_name=status.job.model_name,
        seed=latent.seed if latent.is_seed else None,
        truncation_psi=latent.psi,
        class_index=latent.class_index,
        width=width,
        height=height,
        region=viewport.crop_region,
        transform=[each.to_json() for each in viewport.transform],
        outside=viewport.outside,
        wrap=None if viewport.wrap is None else viewport.wrap.axes,
        **_describe_kind(export),
        tiles_done=status.done,
        tiles_total=status.total,
        progress=_progress(status),
        eta_seconds=await _eta(status, app_state),
        created=datetime.fromtimestamp(status.job.created, UTC),
        started=_moment(status.started),
        finished=_moment(status.finished),
        webhook=status.webhook,
        labels=dict(status.job.labels),
        links=_links(status, base),
    )


def _describe_kind(export: Order) -> dict[str, Any]:
    """What only images as tiles have, and what only videos have."""
    if isinstance(export, VideoSpec):
        video = {"frames": export.timeline.frames, "fps": export.timeline.fps}
        return dict.fromkeys(("tile", "format", "quality", "bits")) | video
    encoding = export.spec.encoding
    image = {"tile": export.tile, "format": encoding.format, "quality": encoding.quality, "bits": encoding.bits}
    return image | {"frames": None, "fps": None}


def _links(status: Status, base: str) -> Links:
    address = f"{base}/v1/jobs/{status.job.id}"
    viewable = status.state == "succeeded" and status.job.export.kind == "dzi"
    return Links(
        self=address,
        events=f"{address}/events",
        output=f"{address}/output/{status.job.export.name}",
        iiif=f"{base}/iiif/3/job:{status.job.id}/info.json" if viewable else None,
    )


def _progress(status: Status) -> float:
    """Fraction of tiles that are rendered; writing them into a single file counts ASSEMBLY_SHARE of the whole."""
    if status.state == "succeeded":
        return 1.0
    share = 0.0 if status.job.export.kind == "dzi" else ASSEMBLY_SHARE
    return ((1 - share) * status.done + share * min(status.stored, status.total)) / status.total


async def _eta(status: Status, app_state: AppState) -> float | None:
    """Seconds until all tiles are rendered and written into a single file, if there is one."""
    if status.ended:
        return None
    rendering = 0.0 if status.done == status.total else await _rendering_eta(status, app_state)
    return None if rendering is None else round(rendering + _assembly_eta(status), 1)


def _assembly_eta(status: Status) -> float:
    export = status.job.export
    if export.kind == "dzi":
        return 0.0
    left = max(status.total - status.stored, 0)
    if status.done == status.total:
        estimate = seconds_left(status.marks, left, status.now)
        if estimate is not None:
            return estimate
    return export.pixels * left / status.total / ASSEMBLY_RATES.get(export.kind, FAST_ASSEMBLY)


async def _rendering_eta(status: Status, app_state: AppState) -> float | None:
    """From the pace of the last tiles, in pixels that the network renders for them: those of small levels are many.

    Before enough tiles, from the workers' rates and what fair sharing puts before the job's last tile: as many pixels
    of every other job as it has itself, or all that the other has.
    """
    digest, export = status.job.export.spec.model, status.job.export
    config = next((model.config for model in await app_state.models.all() if model.digest == digest), None)
    network = (config.resolution, config.max_scale) if config else (1, 1.0)
    left = export.work(status.total, *network) - export.work(status.done, *network)
    marks = [Mark(time, export.work(round(tiles), *network)) for time, tiles in status.marks]
    estimate = seconds_left(marks, left, status.now)
    if estimate is not None:
        return estimate
    rate = sum(worker.rates.get(digest, 0.0) for worker in await app_state.workers.recent())
    if not rate:
        return None
    waiting = await app_state.jobs.waiting()
    others = sum(min(left, job.tiles * job.pixels) for id_, job in waiting.items() if id_ != status.job.id)
    return (left + others) / rate


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
