"""Liveness, readiness and metrics. None of them needs a key."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from redis.exceptions import RedisError
from starlette.responses import Response

from service.gateway.errors import UnavailableError
from service.gateway.problems import responses
from service.gateway.services import ServicesOfApp
from service.gateway.shared_metrics import shared_metrics

router = APIRouter(tags=["operation"])
metrics_router = APIRouter(tags=["operation"])


Exclude = Annotated[Literal["worker"] | None, Query(description="what may be missing")]


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
@router.get("/readyz", summary="Can pictures be drawn?", responses=responses(422, 503))
async def readyz(services: ServicesOfApp, exclude: Exclude = None) -> Readiness:
    """200 where Redis answers and at least one worker is alive, until this gateway is asked to stop.

    Load balancers exclude the workers: without any, each gateway still answers what is cached or finished.
    """
    if services.draining.is_set():
        raise UnavailableError("this gateway is stopping")
    try:
        workers = await services.workers.look()
    except RedisError:
        raise UnavailableError("redis does not answer", {"redis": False, "worker": False}) from None
    if not workers and exclude != "worker":
        raise UnavailableError(
            "no worker is alive; one that starts takes some seconds", {"redis": True, "worker": False}
        )
    return Readiness(checks={"redis": True, "worker": bool(workers)})


@metrics_router.head("/metrics", include_in_schema=False)
@metrics_router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"description": "Metrics as text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(services: ServicesOfApp) -> Response:
    """This gateway's metrics, and the state of queue, workers, jobs and cache that all gateways share."""
    return Response(generate_latest() + await shared_metrics(services), media_type=CONTENT_TYPE_LATEST)
