"""A job's progress as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from service.gateway.errors import responses
from service.gateway.job_status import JobStatus, StatusOfPath, describe
from service.gateway.middleware.proxy_headers import base_address
from service.gateway.state import CurrentAppState
from service.imaging.order import Order
from service.imaging.video_spec import VideoSpec
from service.jobs.repository import UnknownJobError
from service.jobs.status import State

router = APIRouter(tags=["jobs"])

POLL_SECONDS = 0.3
"""Interval of events. A fast job stores hundreds of tiles a second, which share an event."""

MAX_TILES = 2000
"""Tiles in one event, which take milliseconds of the event loop."""


class Progress(BaseModel):
    """What has happened to a job since the last event."""

    state: State
    tiles_done: int
    tiles_total: int
    progress: float
    eta_seconds: float | None
    tiles: list[tuple[int, int, int]] = Field(
        description="[level, column, row] of tiles that were stored; level 0 is 1×1; none of a video"
    )


@router.head("/v1/jobs/{job_id}/events", include_in_schema=False)
async def head_events(_status: StatusOfPath) -> EventSourceResponse:
    """The headers of :func:`watch_job`, without waiting for the job's end."""
    return EventSourceResponse((), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Watch a job",
    response_class=EventSourceResponse,
    responses=responses(401, 404, 422, 503),
)
async def watch_job(
    status: StatusOfPath,
    request: Request,
    app_state: CurrentAppState,
    last_event_id: Annotated[
        str | None,
        Header(
            pattern=r"^[0-9]{1,19}-[0-9]{1,19}$",
            description="resumes after this event, if it is still known; browsers send it by themselves",
        ),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Events named ``progress``, until the job has ended. The first ones list the tiles that are already stored, or
    those since Last-Event-ID. A job that has ended has one event, without tiles."""
    job, repository, base = status.job, app_state.jobs, base_address(request)
    try:
        tiles: Iterable[int] = ()
        if last_event_id is not None and await repository.has_event(job.id, last_event_id):
            after, tiles = await repository.events(job.id, last_event_id)
        else:
            after = await repository.last_event(job.id)  # before the tiles: one may be listed twice, but none is missed
            if not status.ended:
                tiles = await repository.finished_tiles(job.id)
        async for event in _events(await describe(status, base, app_state), job.export, tiles, after):
            yield event
        while not status.ended:
            await asyncio.sleep(POLL_SECONDS)
            if app_state.stopping.is_set():
                return  # the client reconnects to another gateway with Last-Event-ID
            status = await repository.status(job.id)  # before the events, so that the last ones are not missed
            before, (after, tiles) = after, await repository.events(job.id, after)
            if after != before or status.ended:  # the end may have been read with the events of before
                async for event in _events(await describe(status, base, app_state), job.export, tiles, after):
                    yield event
    except (RedisError, UnknownJobError):
        return  # the client reconnects with Last-Event-ID


async def _events(
    described: JobStatus, export: Order, tiles: Iterable[int], event_id: str
) -> AsyncIterator[ServerSentEvent]:
    """One event, or several for many tiles. Only the last one has an id: a client that misses it gets all again."""
    values = described.model_dump(include=set(Progress.model_fields) - {"tiles"})
    places = iter(()) if isinstance(export, VideoSpec) else map(export.pyramid.locate, tiles)
    batch = list(islice(places, MAX_TILES))
    while following := list(islice(places, MAX_TILES)):
        yield ServerSentEvent(data=Progress(**values, tiles=batch), event="progress")
        await asyncio.sleep(0)
        batch = following
    yield ServerSentEvent(data=Progress(**values, tiles=batch), event="progress", id=event_id)
