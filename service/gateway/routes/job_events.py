"""A job's progress as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from service.gateway.job_status import JobStatus, StatusOfPath, describe
from service.gateway.problems import responses
from service.gateway.proxies import base_address
from service.gateway.services import ServicesOfApp
from service.jobs.board import State, UnknownJobError
from service.outputs.order import Order

router = APIRouter(tags=["jobs"])

POLL_SECONDS = 0.3
"""Between two looks. What happens meanwhile is told together: a fast job stores hundreds of tiles a second."""

TILES_AT_ONCE = 2000
"""In one event at most. They take some milliseconds, for which all other requests wait."""


class Progress(BaseModel):
    """What has happened to a job since the event before."""

    state: State
    tiles_done: int
    tiles_total: int
    progress: float
    eta_seconds: float | None
    tiles: list[tuple[int, int, int]] = Field(
        description="[level, column, row] of tiles that were stored; level 0 is 1×1"
    )


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="Watch a job",
    response_class=EventSourceResponse,
    responses=responses(401, 404, 422, 503),
)
async def get_events(
    status: StatusOfPath,
    request: Request,
    services: ServicesOfApp,
    last_event_id: Annotated[
        str | None,
        Header(
            pattern=r"^[0-9]{1,19}-[0-9]{1,19}$",
            description="goes on after this event, if it is still known; browsers send it by themselves",
        ),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Events named ``progress``, until the job has ended. The first ones tell the tiles that are stored already, or
    those since Last-Event-ID. Of a job that has ended there is one event, without tiles."""
    job, board, base = status.job, services.jobs, base_address(request)
    try:
        tiles: Iterable[int] = ()
        if last_event_id is not None and await board.has_event(job.id, last_event_id):
            after, tiles = await board.events(job.id, last_event_id)
        else:
            after = await board.last_event(job.id)  # before the tiles: rather one told twice than one forgotten
            if not status.ended:
                tiles = await board.finished_tiles(job.id)
        async for event in _events(await describe(status, base, services), job.order, tiles, after):
            yield event
        while not status.ended:
            await asyncio.sleep(POLL_SECONDS)
            if services.leaving.is_set():
                return  # the client comes again, to another gateway, with Last-Event-ID
            status = await board.status(job.id)  # before the events, so that none is missed at the end
            before, (after, tiles) = after, await board.events(job.id, after)
            if after != before:
                async for event in _events(await describe(status, base, services), job.order, tiles, after):
                    yield event
    except (RedisError, UnknownJobError):
        return  # the client comes again, with Last-Event-ID


async def _events(
    described: JobStatus, order: Order, tiles: Iterable[int], event_id: str
) -> AsyncIterator[ServerSentEvent]:
    """One event, or several where there are many tiles. The last alone has an id: whoever misses it gets all again."""
    values = described.model_dump(include=set(Progress.model_fields) - {"tiles"})
    places = map(order.pyramid.locate, tiles)
    batch = list(islice(places, TILES_AT_ONCE))
    while following := list(islice(places, TILES_AT_ONCE)):
        yield ServerSentEvent(data=Progress(**values, tiles=batch), event="progress")
        await asyncio.sleep(0)
        batch = following
    yield ServerSentEvent(data=Progress(**values, tiles=batch), event="progress", id=event_id)
