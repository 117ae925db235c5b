"""Liveness, readiness and metrics. None of them needs a key."""

from collections import Counter
from typing import Literal

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.responses import Response

from service import metrics
from service.gateway.errors import UnavailableError
from service.gateway.problems import responses
from service.gateway.services import ServicesOfApp

router = APIRouter(tags=["operation"])


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    status: Literal["ready"] = "ready"
    checks: dict[str, bool]


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the process alive?")
async def livez() -> Liveness:
    """200 as long as the gateway answers at all."""
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Can pictures be drawn?", responses=responses(503))
async def readyz(services: ServicesOfApp) -> Readiness:
    """200 where Redis answers and at least one worker is alive, until this gateway is asked to stop."""
    if services.draining.is_set():
        raise UnavailableError("this gateway is stopping")
    try:
        workers = await services.workers.look()
    except RedisError:
        raise UnavailableError("redis does not answer", {"redis": False, "worker": False}) from None
    if not workers:
        raise UnavailableError(
            "no worker is alive; one that starts takes some seconds", {"redis": True, "worker": False}
        )
    return Readiness(checks={"redis": True, "worker": True})


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"description": "Metrics as text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(services: ServicesOfApp) -> Response:
    """This gateway's metrics, and the state of queue, workers, jobs and cache that all gateways share."""
    metrics.WORKERS.clear()
    metrics.QUEUE_DEPTH.clear()
    metrics.JOBS.clear()
    metrics.CACHE_BYTES.clear()
    try:
        for state, count in Counter(worker.state for worker in await services.workers.look()).items():
            metrics.WORKERS.labels(state=state).set(count)
        for stream, depth in (await services.client.depths()).items():
            metrics.QUEUE_DEPTH.labels(stream=stream).set(depth)
        for job_state, jobs in (await services.jobs.counts()).items():
            metrics.JOBS.labels(state=job_state).set(jobs)
        metrics.CACHE_BYTES.labels(cache="pictures").set(await services.cache.held())
    except RedisError:
        pass  # the metrics of this process are still worth reading; /readyz tells that Redis is away
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
