"""What the gateway tells of a job."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Path
from pydantic import BaseModel, Field

from model.spec import Format
from service.gateway.services import Services, ServicesOfApp
from service.jobs.board import UNFINISHED, State, Status, Told
from service.outputs.order import Kind

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the job's id", examples=["0" * 32])]


class Links(BaseModel):
    self: str
    events: str = Field(description="progress as server-sent events")
    output: str = Field(description="the finished file; of Deep Zoom the .dzi")
    iiif: str | None = Field(description="the finished picture for IIIF viewers; of Deep Zoom alone")


class JobStatus(BaseModel):
    """How far a job is."""

    id: str
    state: State
    error: str | None = Field(description="why it failed")
    output: Kind
    tile: int
    model: str = Field(description="digest of the checkpoint")
    seed: int
    truncation_psi: float
    class_index: int | None
    width: int
    height: int
    region: tuple[float, float, float, float] = Field(description="what it shows of the unit square")
    format: Format
    quality: int
    tiles_done: int = Field(description="tiles of all levels that are in the store")
    tiles_total: int
    progress: float = Field(ge=0, le=1, description="part of the work that is done")
    eta_seconds: float | None = Field(description="until it is finished, as far as can be told now; else null")
    created: datetime
    started: datetime | None
    finished: datetime | None
    webhook: Told | None = Field(description="whether the webhook was told of the end, once there is one to tell of")
    links: Links


class Jobs(BaseModel):
    jobs: list[JobStatus]
    total: int = Field(description="jobs that there are, of that state where one was asked for")


async def _status_of_path(job_id: JobId, services: ServicesOfApp) -> Status:
    return await services.jobs.status(job_id)


StatusOfPath = Annotated[Status, Depends(_status_of_path)]
"""The job of the path's id. Raises UnknownJobError."""


async def describe(status: Status, base: str, services: Services) -> JobStatus:
    """A job's status.

    Args:
        base: the service's address as the client sees it, without a slash at the end.
    """
    order, latent = status.job.order, status.job.order.spec.latent
    picture = order.pyramid.levels[-1]
    return JobStatus(
        id=status.job.id,
        state=status.state,
        error=status.error,
        output=order.kind,
        tile=order.tile,
        model=order.spec.model,
        seed=latent.seed or 0,
        truncation_psi=latent.psi,
        class_index=latent.class_index,
        width=picture.width,
        height=picture.height,
        region=order.spec.viewport.crop_region,
        format=order.spec.encoding.format,
        quality=order.spec.encoding.quality,
        tiles_done=status.done,
        tiles_total=status.total,
        progress=_progress(status),
        eta_seconds=await _eta(status, services),
        created=datetime.fromtimestamp(status.job.created, UTC),
        started=_moment(status.started),
        finished=_moment(status.finished),
        webhook=status.told,
        links=_links(status, base),
    )


def _links(status: Status, base: str) -> Links:
    address = f"{base}/v1/jobs/{status.job.id}"
    viewable = status.state == "succeeded" and status.job.order.kind == "dzi"
    return Links(
        self=address,
        events=f"{address}/events",
        output=f"{address}/output",
        iiif=f"{base}/iiif/3/job:{status.job.id}/info.json" if viewable else None,
    )


def _progress(status: Status) -> float:
    """Every tile is drawn; those of one file are then written into it, which counts as much."""
    if status.state == "succeeded":
        return 1.0
    if status.job.order.kind == "dzi":
        return status.done / status.total
    return (status.done + min(status.stored, status.total)) / (2 * status.total)


async def _eta(status: Status, services: Services) -> float | None:
    """Seconds until all tiles are drawn: at the pace of the last ones, or before that at the workers' pace, which all
    unfinished jobs share. Then, until all are written into the one file."""
    if status.ended:
        return None
    if status.rate is not None:
        return round(status.left / status.rate, 1)
    if status.done == status.total:
        return None
    digest = status.job.order.spec.model
    pace = sum(worker.rates.get(digest, 0.0) for worker in await services.workers.recent())
    if not pace:
        return None
    counts = await services.jobs.counts()
    pixels = sum(level.width * level.height for level in status.job.order.pyramid.levels)
    return round(pixels * status.left / status.total * sum(counts[state] for state in UNFINISHED) / pace, 1)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
