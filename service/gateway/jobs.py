"""Jobs: pictures too large for one answer, made tile by tile while their clients do something else."""

import asyncio
import hashlib
import time
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Header, Query, Request, Response

from model.errors import InputError
from model.spec import MAX_SEED
from service.gateway.access import key_of
from service.gateway.errors import UnavailableError
from service.gateway.job_status import Jobs, JobStatus, StatusOfPath, describe
from service.gateway.pictures import check_work, resolve_picture
from service.gateway.problems import responses
from service.gateway.proxies import base_address
from service.gateway.public_network import check_url
from service.gateway.requests import JobRequest
from service.gateway.services import Services, ServicesOfApp
from service.jobs import storage
from service.jobs.board import State, Status, TooManyJobsError, UnknownJobError, UnsettledKeysError
from service.jobs.job import Job, Webhook
from service.outputs.order import Order

router = APIRouter(tags=["jobs"])

MAX_LISTED = 100

SETTLING_SECONDS = 3.0
"""How long orders with a key wait, before they are refused, for a Redis that was just started to be compared with the
store. A keeper looks every two seconds."""

_LOCATION: dict[str, Any] = {
    "Location": {"description": "the job's address", "required": True, "schema": {"type": "string"}}
}
_ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"description": "The job", "headers": _LOCATION}}


@router.post(
    "/v1/jobs",
    status_code=202,
    summary="Order a large picture",
    responses=_ACCEPTED | responses(400, 401, 413, 422, 429, 503),
)
async def post_job(
    body: JobRequest,
    request: Request,
    response: Response,
    services: ServicesOfApp,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="a text that the client made up for this order: given again with it, it is the same job",
        ),
    ] = None,
) -> JobStatus:
    """Accepts the order. From then on nothing but a cancellation, or an error that stays, keeps it from its end."""
    webhook = _webhook(body, request, services)
    order = await _resolve(body, services, idempotency_key)
    status = await _submit(order, webhook, request, services, idempotency_key)
    described = await describe(status, base_address(request), services)
    response.headers["Location"] = described.links.self
    return described


@router.head("/v1/jobs", include_in_schema=False)
@router.get("/v1/jobs", summary="List the jobs", responses=responses(401, 422, 503))
async def list_jobs(
    request: Request,
    services: ServicesOfApp,
    state: Annotated[State | None, Query(description="only jobs in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED, description="jobs in one answer")] = MAX_LISTED,
    offset: Annotated[int, Query(ge=0, le=10_000_000, description="jobs to be skipped")] = 0,
) -> Jobs:
    """The newest first. Ended jobs are listed until they are removed."""
    counts = await services.jobs.counts()
    found = await services.jobs.latest(limit, offset, state)
    total = sum(counts.values()) if state is None else counts[state]
    return Jobs(jobs=[await describe(status, base_address(request), services) for status in found], total=total)


@router.head("/v1/jobs/{job_id}", include_in_schema=False)
@router.get("/v1/jobs/{job_id}", summary="Describe a job", responses=responses(401, 404, 422, 503))
async def get_job(status: StatusOfPath, request: Request, services: ServicesOfApp) -> JobStatus:
    """How far it is."""
    return await describe(status, base_address(request), services)


@router.delete("/v1/jobs/{job_id}", summary="Cancel or remove a job", responses=responses(401, 404, 422, 503))
async def delete_job(status: StatusOfPath, request: Request, services: ServicesOfApp) -> JobStatus:
    """Cancels an unfinished job: no tile of it is begun any more, and its files are removed. Of an ended one, files and
    record are removed. The answer tells what the job was or has become."""
    job = status.job
    if status.ended:
        await storage.remove(services.outputs, job.id)
        await services.jobs.forget(job.id)
        return await describe(status, base_address(request), services)
    if await services.jobs.cancel(job.id):  # else it ended just now
        await storage.remove_record(services.outputs, job.id)  # the files follow once no worker holds a tile of it
    return await describe(await services.jobs.status(job.id), base_address(request), services)


async def _resolve(body: JobRequest, services: Services, key: str | None) -> Order:
    """What is ordered, within the limits. Where no seed is named, the same key gives the same one."""
    if body.seed is None and key is not None:
        seed = int.from_bytes(_digest("seed", key)[:4], "big") % (MAX_SEED + 1)
        body = body.model_copy(update={"seed": seed})
    picture = await resolve_picture(body, services.models)
    order = Order(picture.spec, body.output, body.tile)
    check_work(
        picture.spec.viewport,
        picture.checkpoint.config.resolution,
        services.settings.max_job_pixels,
        " for one job",
    )
    return order


def _webhook(body: JobRequest, request: Request, services: Services) -> Webhook | None:
    """Whom to tell. Raises InputError where nobody may be told."""
    if body.webhook is None:
        return None
    if not services.settings.webhook_secrets:
        raise InputError("webhook", "this service tells nobody: its operator has set no CREPS_WEBHOOK_SECRETS")
    check_url(body.webhook, private=services.settings.webhook_private)
    return Webhook(str(body.webhook), base_address(request))


async def _submit(
    order: Order, webhook: Webhook | None, request: Request, services: Services, key: str | None
) -> Status:
    """A new job, or the one that the key stands for."""
    digest = None if key is None else _digest("job", key).hex()
    job = Job(uuid4().hex, time.time(), order, webhook, digest)
    accepted = await _known(job, services)
    if accepted is None:
        accepted = await _charge_and_admit(job, request, services)
    try:
        status = await services.jobs.status(accepted)
    except UnknownJobError:
        raise UnavailableError("the job of this Idempotency-Key was removed just now") from None
    if not _same(status.job, order, webhook):
        raise InputError("Idempotency-Key", "has been given with another order")
    return status


async def _known(job: Job, services: Services) -> str | None:
    """What Board.known says, for which an order may have to wait a little."""
    end = time.monotonic() + SETTLING_SECONDS
    while True:
        try:
            return await services.jobs.known(job, services.settings.job_limit)
        except UnsettledKeysError:
            if time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


async def _charge_and_admit(job: Job, request: Request, services: Services) -> str:
    """As :func:`_admit`. The client's key pays for what becomes a job alone."""
    api_key = key_of(request)
    if api_key is None:
        return await _admit(job, services)
    checkpoint = await services.models.resolve(job.order.spec.model)
    pixels = job.order.rendered_pixels(checkpoint.config.resolution)
    await services.budgets.charge_pixels(api_key, pixels)
    accepted = None
    try:
        accepted = await _admit(job, services)
    finally:
        if accepted != job.id:
            await services.budgets.give_back_pixels(api_key, pixels)
    return accepted


async def _admit(job: Job, services: Services) -> str:
    """The id of the job that is there for the order.

    Once the record is in the store the job is accepted: what Redis loses, a keeper finds there. So it stays whatever
    happens, unless Redis has told that this job is none.
    """
    await storage.put_record(services.outputs, job)
    try:
        accepted = await services.jobs.admit(job, services.settings.job_limit)
    except (TooManyJobsError, UnsettledKeysError):
        await storage.remove_record(services.outputs, job.id)
        raise
    if accepted != job.id:  # another order with the key was quicker
        await storage.remove_record(services.outputs, job.id)
    return accepted


def _same(job: Job, order: Order, webhook: Webhook | None) -> bool:
    """Whether this is what was ordered. The client may have come by another of the service's addresses."""
    return job.order == order and (job.webhook and job.webhook.url) == (webhook and webhook.url)


def _digest(purpose: str, key: str) -> bytes:
    return hashlib.sha256(f"{purpose}:{key}".encode()).digest()
