"""The objects that the routes share."""

import asyncio
from typing import Annotated

from fastapi import Depends, Request
from redis.asyncio import Redis

from service.gateway.direction_store import DirectionStore
from service.gateway.image_cache import ImageCache
from service.gateway.model_lookup import ModelLookup
from service.gateway.rate_limits import RateLimits
from service.gateway.responses import InFlightBytes
from service.gateway.worker_registry import WorkerRegistry
from service.imaging.object_store import Store
from service.jobs.projections import ProjectionRepository
from service.jobs.repository import JobRepository
from service.models.catalog import Catalog
from service.models.latent_store import LatentStore
from service.queue.client import RenderClient
from service.runtime.settings import GatewaySettings

MAX_TRANSFORMS = 2
"""Images that a gateway puts together from tiles, or transforms, at once. One of 4096² takes about 200 MB."""


MAX_UPLOADS = 4
"""Pictures that a gateway receives at once, of up to 16 MiB each."""


class AppState:
    """Connections of the gateway, which the caller opens and closes, and what is built on them.

    Attributes:
        arithmetics: of the last image of each model, by digest.
        uploads: held by each picture that is received: bodies are not read before.
        transforms: held by each image that is put together or transformed.
        draining: set when load balancers should send no more requests.
        stopping: set when event streams must end.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        redis: "Redis",
        client: RenderClient,
        catalog: Catalog,
        outputs: Store,
        cache: ImageCache,
    ) -> None:
        self.settings = settings
        self.client = client
        self.outputs = outputs
        self.cache = cache
        self.models = ModelLookup(catalog)
        self.workers = WorkerRegistry(client)
        self.jobs = JobRepository(redis)
        self.latents = LatentStore(outputs, settings.job_days)
        self.directions = DirectionStore(outputs, redis)
        self.projections = ProjectionRepository(redis, settings.job_days)
        self.rate_limits = RateLimits(redis, client)
        self.in_flight = InFlightBytes(settings.answer_bytes)
        self.arithmetics: dict[str, str] = {}
        self.transforms = asyncio.Semaphore(MAX_TRANSFORMS)
        self.uploads = asyncio.Semaphore(MAX_UPLOADS)
        self.draining = asyncio.Event()
        self.stopping = asyncio.Event()


async def _app_state(request: Request) -> AppState:  # async: FastAPI would run a plain function in a thread
    app_state: AppState = request.app.state.app_state
    return app_state


CurrentAppState = Annotated[AppState, Depends(_app_state)]
