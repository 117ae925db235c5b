"""A stand-in for the queue, and a gateway that runs in a thread."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from pydantic import SecretStr
from safetensors.numpy import save_file

from model.checkpoint import FORMAT, FORMAT_VERSION, SUFFIX, Checkpoint
from model.config import GeneratorConfig
from model.spec import RenderSpec
from service.catalog import Catalog
from service.gateway.app import create_app
from service.gateway.current_models import CurrentModels
from service.gateway.server import address_of, listen, running_server
from service.gateway.services import Services
from service.gateway.workers import Workers
from service.jobs.board import Board
from service.outputs.store import open_store
from service.picture_cache import PictureCache
from service.queue import RenderClient, RenderResult, WorkerInfo, connect
from service.settings import Settings


class StandInClient(RenderClient):
    """Answers at once with a picture of the right size, or as a test prescribes."""

    def __init__(self) -> None:
        self.asked: list[RenderSpec] = []
        self.failure: Exception | None = None
        self.stuck = False
        self.cancelled = threading.Event()
        self.alive: list[WorkerInfo] = []
        self.away: Exception | None = None

    async def render(self, spec: RenderSpec, timeout: float) -> RenderResult:  # noqa: ASYNC109
        self.asked.append(spec)
        if self.failure:
            raise self.failure
        if self.stuck:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return RenderResult(draw(spec), 0.001, 0.0125, 0.002)

    async def depths(self) -> dict[str, int]:
        return {"pictures": 3, "tiles": 0}

    async def workers(self) -> list[WorkerInfo]:
        if self.away:
            raise self.away
        return self.alive


def draw(spec: RenderSpec) -> bytes:
    file = BytesIO()
    Image.new("RGB", spec.viewport.crop[2:], (spec.latent.seed or 0) % 256).save(file, spec.encoding.format)
    return file.getvalue()


@dataclass
class RunningGateway:
    """``http`` asks the gateway, which asks ``queue``."""

    http: httpx.Client
    queue: StandInClient
    models: Path
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def image(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/v1/images/{path}", params=query or None)

    def post(self, **body: Any) -> httpx.Response:
        content = json.dumps(body)  # ASCII with escapes, where httpx would fail on half a surrogate pair
        return self.http.post("/v1/images", content=content, headers={"Content-Type": "application/json"})


def save_header(folder: Path, name: str, config: GeneratorConfig) -> Checkpoint:
    """A checkpoint without tensors, all that the gateway reads."""
    path = folder / f"{name}{SUFFIX}"
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(config.to_dict())}
    save_file({}, path, header | {"info": json.dumps({"licence": "CC0", "file": name})})
    return Checkpoint.open(path)


def settings(*keys: str, **values: Any) -> Settings:
    return Settings(api_keys=tuple(map(SecretStr, keys)), **values)


def services_of(asked: Settings, catalog: Catalog, queue: "StandInClient") -> Services:
    """Without Redis: its pictures come from ``queue``, none is cached, and it knows no jobs."""
    redis, store = connect("redis://127.0.0.1:1"), open_store("memory://")
    cache = PictureCache(redis, asked.cache_bytes)
    return Services(asked, CurrentModels(catalog), queue, Workers(queue), Board(redis), store, cache)


@contextmanager
def run_gateway(folder: Path, asked: Settings) -> Iterator[RunningGateway]:
    """A gateway without a bundled demo, at a free port."""
    queue = StandInClient()
    catalog = Catalog(folder, demo=folder / "none")
    app = create_app(services_of(asked, catalog, queue))
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    with listen("127.0.0.1", 0) as listener:

        async def serve() -> None:
            async with running_server(app, listener):
                await stop.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            with httpx.Client(base_url=address_of(listener), timeout=30, trust_env=False) as http:
                yield RunningGateway(http, queue, folder)
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()
