"""A stand-in for the queue, and a gateway that runs in a thread."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from obstore.store import MemoryStore
from PIL import Image
from pydantic import SecretStr
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.spec import RenderSpec
from service.gateway.app import create_app
from service.gateway.image_cache import ImageCache
from service.gateway.server import address_of, listen, running_server
from service.gateway.state import AppState
from service.jobs.reconciler import Reconciler
from service.models.catalog import Catalog
from service.queue.client import RenderClient
from service.queue.messages import Priority, RenderResult, Wanted, WorkerInfo
from service.runtime.embedded_redis import embedded_redis
from service.runtime.redis import connect
from service.runtime.settings import Settings
from tests.service.waiting import LONG


class StandInClient(RenderClient):
    """Answers at once with an image of the right size, or as a test says."""

    def __init__(self) -> None:
        self.asked: list[RenderSpec] = []
        self.priorities: list[Priority] = []
        self.failure: Exception | None = None
        self.content: bytes | None = None
        self.arithmetic = "fp32"
        self.stuck = False
        self.cancelled = threading.Event()
        self.alive: list[WorkerInfo] = []
        self.away: Exception | None = None

    async def devices_lost(self) -> int:
        return 0

    async def render(
        self,
        spec: RenderSpec,
        timeout: float,  # noqa: ASYNC109
        priority: Priority = "interactive",
        wanted: Wanted = "image",
    ) -> RenderResult:
        """An image or, as styles, 9 rows with the seed and the truncation."""
        self.asked.append(spec)
        self.priorities.append(priority)
        if self.failure:
            raise self.failure
        if self.stuck:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if wanted == "styles":
            content = np.full((9, 1), (spec.latent.seed or 0) + spec.latent.psi, "<f4").tobytes()
        else:
            content = self.content or draw(spec)
        return RenderResult(content, 0.001, 0.0125, 0.002, self.arithmetic)

    async def depths(self) -> dict[str, int]:
        return {"pictures": 3, "tiles": 0}

    async def ages(self) -> dict[str, float]:
        return {"pictures": 1.5, "tiles": 0}

    async def workers(self) -> list[WorkerInfo]:
        if self.away:
            raise self.away
        return self.alive


def draw(spec: RenderSpec) -> bytes:
    file, image_format = BytesIO(), spec.encoding.format
    kind = image_format if image_format in ("jpeg", "tiff", "webp") else "png"  # Pillow does not know all of them
    Image.new("RGB", spec.viewport.crop[2:], (spec.latent.seed or 0) % 256).save(file, kind)
    return file.getvalue()


@dataclass
class RunningGateway:
    """``http`` asks the gateway, which asks ``queue``. It works with ``services`` in a thread that runs ``loop``."""

    http: httpx.Client
    queue: StandInClient
    models: Path
    app_state: AppState
    loop: asyncio.AbstractEventLoop
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def image(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/v1/images/{path}", params=query or None)

    def post(self, **body: Any) -> httpx.Response:
        content = json.dumps(body)  # ASCII with escapes, where httpx would fail on half a surrogate pair
        return self.http.post("/v1/images", content=content, headers={"Content-Type": "application/json"})


def settings(*keys: str, **values: Any) -> Settings:
    return Settings(api_keys=tuple(map(SecretStr, keys)), **values)


def services_of(asked: Settings, catalog: Catalog, queue: "StandInClient", redis: "Redis") -> AppState:
    """Images come from ``queue``, and none is cached; jobs are queued, but not rendered."""
    return AppState(asked, redis, queue, catalog, MemoryStore(), ImageCache(None))


@contextmanager
def run_gateway(folder: Path, asked: Settings) -> Iterator[RunningGateway]:
    """A gateway without a bundled demo, at a free port."""
    queue = StandInClient()
    catalog = Catalog(folder, demo=folder / "none")
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    ready: Future[AppState] = Future()
    with listen(asked.host, 0) as listener:

        async def serve() -> None:
            async with embedded_redis() as url, connect(url) as redis:
                app_state = services_of(asked, catalog, queue, redis)
                await Reconciler(app_state.jobs, app_state.outputs, days=1).reconcile()
                async with running_server(create_app(app_state), listener, asked.keep_alive):
                    ready.set_result(app_state)
                    await stop.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            with httpx.Client(base_url=address_of(listener), timeout=LONG, trust_env=False) as http:
                yield RunningGateway(http, queue, folder, ready.result(LONG), loop)
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()
