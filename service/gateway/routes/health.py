"""Liveness, readiness and metrics, which need no API key."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.responses import Response

from service.gateway.errors import UnavailableError, responses
from service.gateway.redis_metrics import redis_metrics
from service.gateway.state import CurrentAppState
from service.runtime.gateway_metrics import process_metrics

router = APIRouter(tags=["operation"])
metrics_router = APIRouter(tags=["operation"])


Exclude = Annotated[Literal["worker"] | None, Query(description="a check that may fail")]


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    status: Literal["ready"] = "ready"
    checks: dict[str, bool] = Field(examples=[{"redis": True, "worker": True}])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Is the process alive?")
async def livez() -> Liveness:
    """200 while the gateway runs."""
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Can images be rendered?", responses=responses(422, 503))
async def readyz(app_state: CurrentAppState, exclude: Exclude = None) -> Readiness:
    """200 if Redis answers and at least one worker is alive, until this gateway stops.

    Load balancers exclude the workers: without any, a gateway still serves cached images and finished jobs.
    """
    if app_state.draining.is_set():
        raise UnavailableError("this gateway is stopping")
    try:
        workers = await app_state.workers.refresh()
    except RedisError:
        raise UnavailableError("Redis does not answer", {"redis": False, "worker": False}) from None
    if not workers and exclude != "worker":
        raise UnavailableError("no worker is alive; starting one takes seconds", {"redis": True, "worker": False})
    return Readiness(checks={"redis": True, "worker": bool(workers)})


@metrics_router.head("/metrics", include_in_schema=False)
@metrics_router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"description": "Metrics as text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(app_state: CurrentAppState) -> Response:
    """Metrics of this gateway, and of the queue, workers, jobs and cache that all gateways share."""
    return Response(process_metrics() + await redis_metrics(app_state), media_type=CONTENT_TYPE_LATEST)
