"""Projections: the latent whose image is nearest to a picture, found in the background."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import obstore
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from model.latents.latent import Latent
from service.gateway.errors import responses
from service.gateway.job_status import ID_PATTERN, visible_owner
from service.gateway.middleware.auth import key_of, owner_of
from service.gateway.middleware.proxy_headers import base_address
from service.gateway.pictures import MASKED_BODY, read_pictures
from service.gateway.resolve import find_model
from service.gateway.routes.images import header
from service.gateway.schema_types import MAX_NAME, Class, QueryInteger, StrictModel
from service.gateway.state import CurrentAppState
from service.jobs.projections import Projection, ProjectionStatus, delete_files
from service.jobs.repository import NoSuchJobError, UnknownJobError
from service.jobs.status import State

upload_router = APIRouter(tags=["latents"])
router = APIRouter(tags=["latents"])

STEP_PIXELS = 64 * 64
"""Of the crop that the network renders in each step."""

DEFAULT_STEPS, MAX_STEPS = 200, 2000

MAX_UNFINISHED = 100

POLL_SECONDS = 0.5
"""Interval of events."""

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "The projection", "headers": {"Location": header("its address")}}
}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": MASKED_BODY}}


class ProjectionQuery(StrictModel):
    """The query of a new projection."""

    model: str | None = Field(
        None, min_length=1, max_length=MAX_NAME, description="name or digest; default: the only one, or `demo`"
    )
    class_index: Class | None = Field(None, alias="class", description="look among the images of a class")
    steps: QueryInteger = Field(
        DEFAULT_STEPS, ge=1, le=MAX_STEPS, description=f"steps of the search, each on {STEP_PIXELS} pixels"
    )


class ProjectionInfo(BaseModel):
    """A projection and its progress."""

    id: str = Field(examples=["0" * 32])
    state: State = Field(examples=["running"])
    error: str | None = Field(description="why it failed", examples=[None])
    model: str = Field(description="digest of the checkpoint", examples=["9f" * 32])
    steps: int = Field(examples=[200])
    steps_done: int = Field(examples=[80])
    latent: str | None = Field(
        description="id of the best latent so far, for previews, and of the result at the end",
        examples=[f"lat_{'0' * 32}"],
    )
    psnr_w: float | None = Field(description="dB that the same styles in all layers reached", examples=[None])
    psnr: float | None = Field(description="dB of the result over the known pixels of the picture", examples=[None])
    created: datetime = Field(examples=["2026-11-29T12:00:00Z"])
    finished: datetime | None = Field(examples=[None])


@upload_router.post(
    "/v1/projections",
    status_code=202,
    summary="Find the latent of a picture",
    responses=_ACCEPTED | responses(400, 401, 404, 413, 415, 422, 429, 503),
    openapi_extra=_BODY,
)
async def create_projection(
    query: Annotated[ProjectionQuery, Query()], request: Request, response: Response, app_state: CurrentAppState
) -> ProjectionInfo:
    """Look for the latent whose image is nearest to a PNG, JPEG or WebP picture, first with the same styles in all
    layers, then in w+. The longest side is averaged down to 512 pixels. Transparent pixels are filled in; so is what is
    black in the file `mask` of a form, which has the picture as the file `picture`."""
    checkpoint = await find_model(query.model, app_state.models)
    class_index = None
    if query.class_index is not None:
        class_index = checkpoint.find_class(query.class_index)
        Latent(seed=0, class_index=class_index).check(checkpoint.config)
    now, key, pixels = time.time(), key_of(request), query.steps * STEP_PIXELS
    async with app_state.uploads:
        files = await read_pictures(request, app_state.settings.max_image_pixels)
        projection = Projection(
            uuid4().hex,
            checkpoint.digest,
            checkpoint.name,
            query.steps,
            class_index,
            now,
            owner_of(request),
            has_mask="mask" in files,
        )
        await app_state.rate_limits.charge_pixels(key, pixels)
        try:
            for name, path in projection.files.items():
                await obstore.put_async(app_state.outputs, path, files[name])
            await app_state.projections.create(projection, MAX_UNFINISHED)
        except Exception:
            await app_state.rate_limits.refund_pixels(key, pixels)
            await delete_files(app_state.outputs, projection)
            raise
    response.headers["Location"] = f"{base_address(request)}/v1/projections/{projection.id}"
    return _describe(ProjectionStatus(projection, "queued"))


async def _find(
    projection_id: Annotated[str, Path(pattern=ID_PATTERN, description="its id", examples=["0" * 32])],
    request: Request,
    app_state: CurrentAppState,
) -> ProjectionStatus:
    """Raises NoSuchJobError, also for a projection of another owner."""
    status = await app_state.projections.status(projection_id)
    owner = visible_owner(request, app_state)
    if None not in (owner, status.projection.owner) and owner != status.projection.owner:
        raise NoSuchJobError
    return status


StatusOfPath = Annotated[ProjectionStatus, Depends(_find)]


@router.head("/v1/projections/{projection_id}", include_in_schema=False)
@router.get("/v1/projections/{projection_id}", summary="Describe a projection", responses=responses(401, 404, 422, 503))
async def get_projection(status: StatusOfPath) -> ProjectionInfo:
    """The projection and its progress."""
    return _describe(status)


@router.delete(
    "/v1/projections/{projection_id}", summary="Cancel a projection", responses=responses(401, 404, 422, 503)
)
async def cancel_projection(status: StatusOfPath, app_state: CurrentAppState) -> ProjectionInfo:
    """Cancel an unfinished projection. Its latents stay until they expire. One that has ended stays as it is."""
    if await app_state.projections.end(status.projection.id, "cancelled"):
        await delete_files(app_state.outputs, status.projection)
    return _describe(await app_state.projections.status(status.projection.id))


@router.head("/v1/projections/{projection_id}/events", include_in_schema=False)
async def head_projection_events(_status: StatusOfPath) -> EventSourceResponse:
    """The headers of :func:`watch_projection`, without waiting for the end."""
    return EventSourceResponse((), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


@router.get(
    "/v1/projections/{projection_id}/events",
    summary="Watch a projection",
    response_class=EventSourceResponse,
    responses=responses(401, 404, 422, 503),
)
async def watch_projection(status: StatusOfPath, app_state: CurrentAppState) -> AsyncIterator[ServerSentEvent]:
    """Events named `progress` with the projection, whenever it has changed, until it has ended."""
    told = None
    with contextlib.suppress(RedisError, UnknownJobError):  # the client reconnects
        while not app_state.stopping.is_set():
            if (described := _describe(status)) != told:
                yield ServerSentEvent(data=described, event="progress")
                told = described
            if status.ended:
                return
            await asyncio.sleep(POLL_SECONDS)
            status = await app_state.projections.status(status.projection.id)


def _describe(status: ProjectionStatus) -> ProjectionInfo:
    projection = status.projection
    return ProjectionInfo(
        id=projection.id,
        state=status.state,
        error=status.error,
        model=projection.model,
        steps=projection.steps,
        steps_done=status.done,
        latent=status.latent,
        psnr_w=status.psnr_w,
        psnr=status.psnr,
        created=datetime.fromtimestamp(projection.created, UTC),
        finished=None if status.finished is None else datetime.fromtimestamp(status.finished, UTC),
    )
