"""Jobs: images that are too large for one response, and videos, rendered piece by piece in the background."""

import asyncio
import hashlib
import time
from typing import Annotated, Any, cast
from uuid import uuid4

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field

from model.errors import InputError
from model.latents.latent import MAX_SEED
from service.gateway import audit
from service.gateway.errors import UnavailableError, responses
from service.gateway.job_schemas import JobRequest
from service.gateway.job_status import Jobs, JobStatus, StatusOfPath, describe, visible_owner
from service.gateway.middleware.auth import key_of, owner_of
from service.gateway.middleware.proxy_headers import base_address
from service.gateway.resolve import check_work, resolve_image
from service.gateway.routes.images import header
from service.gateway.schema_types import QueryInteger, StrictModel
from service.gateway.ssrf import check_url
from service.gateway.state import AppState, CurrentAppState
from service.gateway.videos import resolve_video
from service.imaging.export_spec import ExportSpec, Kind
from service.imaging.order import Order
from service.imaging.video_spec import VIDEO_KINDS, is_video
from service.jobs import records
from service.jobs.job import Job, Webhook
from service.jobs.repository import TooManyJobsError, UnknownJobError, UnsettledKeysError
from service.jobs.status import State, Status

router = APIRouter(tags=["jobs"])

MAX_LISTED = 100

OF_VIDEOS = ("keyframes", "fps", "loop", "walk", "pace", "cells")

_CURSOR = r"^([0-9]{1,12}(\.[0-9]{1,12})?-[0-9a-f]{32})?$"

SETTLING_SECONDS = 3.0
"""How long requests with an Idempotency-Key wait while a Redis that was just started is compared with the store. A
reconciler does so every two seconds."""

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "The job", "headers": {"Location": header("the job's address")}}
}


@router.post(
    "/v1/jobs",
    status_code=202,
    summary="Start a job",
    responses=_ACCEPTED | responses(400, 401, 404, 413, 415, 422, 429, 503),
)
async def create_job(
    body: JobRequest,
    request: Request,
    response: Response,
    app_state: CurrentAppState,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="a string chosen by the client: the same request with the same key gives the same job",
        ),
    ] = None,
) -> JobStatus:
    """Accept a job. It is finished unless it is cancelled or a permanent error occurs."""
    owner, webhook = owner_of(request), _webhook(body, request, app_state)
    if idempotency_key is not None and owner is not None:
        idempotency_key = f"{owner}:{idempotency_key}"  # each owner has Idempotency-Keys of its own
    export, model_name, pixels = await _resolve(body, app_state, idempotency_key)
    digest = None if idempotency_key is None else _digest("job", idempotency_key).hex()
    job = Job(uuid4().hex, time.time(), export, webhook, digest, model_name, body.labels, owner)
    status = await _submit(job, pixels, request, app_state)
    described = await describe(status, base_address(request), app_state)
    response.headers["Location"] = described.links.self
    return described


class JobsQuery(StrictModel):
    """The query of a list of jobs."""

    state: State | None = Field(None, description="only jobs in this state")
    limit: QueryInteger = Field(MAX_LISTED, ge=1, le=MAX_LISTED, description="jobs in one response")
    offset: QueryInteger = Field(0, ge=0, le=10_000_000, description="jobs to skip; better use `after`")
    after: str = Field("", pattern=_CURSOR, description="`next` of the page before; excludes `offset`")


@router.head("/v1/jobs", include_in_schema=False)
@router.get("/v1/jobs", summary="List the jobs", responses=responses(401, 422, 503))
async def list_jobs(query: Annotated[JobsQuery, Query()], request: Request, app_state: CurrentAppState) -> Jobs:
    """Newest first. Ended jobs are listed until they are removed. If API keys are required, only the jobs of the key's
    owner are listed."""
    if query.offset and query.after:
        raise InputError("offset", "cannot be combined with after")
    owner = visible_owner(request, app_state)
    counts = await app_state.jobs.counts(owner)
    following = None
    if query.offset:
        found = await app_state.jobs.latest(query.limit, query.offset, query.state, owner)
    else:
        found, following = await app_state.jobs.page(query.limit, query.after, query.state, owner)
    total = sum(counts.values()) if query.state is None else counts[query.state]
    described = [await describe(status, base_address(request), app_state) for status in found]
    return Jobs(jobs=described, total=total, next=following)


@router.head("/v1/jobs/{job_id}", include_in_schema=False)
@router.get("/v1/jobs/{job_id}", summary="Describe a job", responses=responses(401, 404, 422, 503))
async def get_job(status: StatusOfPath, request: Request, app_state: CurrentAppState) -> JobStatus:
    """The job and its progress."""
    return await describe(status, base_address(request), app_state)


@router.delete("/v1/jobs/{job_id}", summary="Cancel or remove a job", responses=responses(401, 404, 422, 503))
async def delete_job(status: StatusOfPath, request: Request, app_state: CurrentAppState) -> JobStatus:
    """Cancel an unfinished job: no more tiles are started, and its files are removed. Remove the files and record of an
    ended job. The response describes the job after its cancellation, or before its removal."""
    job, key = status.job, key_of(request)
    by = request.client.host if request.client else None, key.name if key else None
    if status.ended:
        await records.remove(app_state.outputs, job.id)
        await app_state.jobs.delete(job.id)
        audit.job_ended("removed", job.id, *by)
        return await describe(status, base_address(request), app_state)
    if await app_state.jobs.cancel(job.id):  # else it has just ended
        await records.remove_record(app_state.outputs, job.id)  # the files are removed once no worker has a tile of it
        audit.job_ended("cancelled", job.id, *by)
    return await describe(await app_state.jobs.status(job.id), base_address(request), app_state)


async def _resolve(body: JobRequest, app_state: AppState, key: str | None) -> tuple[Order, str, int]:
    """The output to make, within the limits, the name of its model, and the pixels that this renders.

    Without a seed, the same Idempotency-Key gives the same one.
    """
    if body.seed is None and body.latent is None and key is not None:
        seed = int.from_bytes(_digest("seed", key)[:4], "big") % (MAX_SEED + 1)
        body = body.model_copy(update={"seed": seed})
    if is_video(body.output):
        video, checkpoint, pixels = await resolve_video(body, app_state)
        return video, checkpoint.name, pixels
    if given := body.first_changed(OF_VIDEOS):
        raise InputError(given, f"is for the outputs {', '.join(VIDEO_KINDS)}")
    image = await resolve_image(body, app_state)
    export, config = ExportSpec(image.spec, cast(Kind, body.output), body.tile), image.checkpoint.config
    check_work(image.spec.viewport, config, app_state.settings.max_job_pixels, " for one job")
    return export, image.checkpoint.name, export.rendered_pixels(config.resolution, config.max_scale)


def _webhook(body: JobRequest, request: Request, app_state: AppState) -> Webhook | None:
    """The webhook. Raises InputError if it is not allowed."""
    if body.webhook is None:
        return None
    if not app_state.settings.webhook_secrets:
        raise InputError("webhook", "is not available: CREPS_WEBHOOK_SECRETS is not set")
    check_url(body.webhook, private=app_state.settings.webhook_private)
    return Webhook(str(body.webhook), base_address(request))


async def _submit(job: Job, pixels: int, request: Request, app_state: AppState) -> Status:
    """The status of the new job, or of the existing one of its Idempotency-Key."""
    accepted = await _find(job, app_state)
    if accepted is None:
        accepted = await _create(job, pixels, request, app_state)
    try:
        status = await app_state.jobs.status(accepted)
    except UnknownJobError:
        raise UnavailableError("the job of this Idempotency-Key has just been removed") from None
    if not _same(status.job, job):
        raise InputError("Idempotency-Key", "was used for a different request")
    return status


async def _find(job: Job, app_state: AppState) -> str | None:
    """The result of JobRepository.find, for which a request may have to wait."""
    end = time.monotonic() + SETTLING_SECONDS
    while True:
        try:
            return await app_state.jobs.find(job, app_state.settings.job_limit)
        except UnsettledKeysError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


async def _create(job: Job, pixels: int, request: Request, app_state: AppState) -> str:
    """Create a job; returns its id, or that of an existing job with the same Idempotency-Key.

    Once the record is in the store the job is accepted: if Redis loses it, a reconciler restores it from there. So the
    record stays even after an error, unless Redis has refused the job. The API key is only charged for a new job.
    """
    key, accepted = key_of(request), None
    await app_state.rate_limits.charge_pixels(key, pixels)
    try:
        await records.put_record(app_state.outputs, job)
        try:
            accepted = await app_state.jobs.create(job, app_state.settings.job_limit)
        except (TooManyJobsError, UnsettledKeysError):
            await records.remove_record(app_state.outputs, job.id)
            raise
        if accepted != job.id:  # another request with the key was faster
            await records.remove_record(app_state.outputs, job.id)
        return accepted
    finally:
        if accepted != job.id:
            await app_state.rate_limits.refund_pixels(key, pixels)


def _same(one: Job, other: Job) -> bool:
    """Whether both were requested alike. The clients may have used different addresses of the service."""
    webhooks = [job.webhook and job.webhook.url for job in (one, other)]
    return one.export == other.export and one.labels == other.labels and webhooks[0] == webhooks[1]


def _digest(purpose: str, key: str) -> bytes:
    return hashlib.sha256(f"{purpose}:{key}".encode()).digest()
