"""Gateways with a file of keys, around a real queue and a worker that notes what it draws."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from service.gateway.api_keys import hash_of
from service.gateway.server import address_of, listen, running_gateway
from service.runtime.settings import Settings
from tests.service.stand_in import make_worker, open_gate
from tests.service.waiting import LONG

Entries = Mapping[str, Mapping[str, Any]]
"""By name, what a file of keys says of a key beside its hash. Every key is called ``key-`` and its name."""


def write_keys(file: Path, entries: Entries) -> None:
    blocks = []
    for name, values in entries.items():
        fields = {"name": name, "hash": hash_of(f"key-{name}".encode()), **values}
        blocks.append("[[key]]\n" + "".join(f"{field} = {json.dumps(value)}\n" for field, value in fields.items()))
    file.write_text("\n".join(blocks))


def as_key(name: str) -> dict[str, str]:
    """Headers of a client with that key."""
    return {"Authorization": f"Bearer key-{name}"}


@asynccontextmanager
async def keyed_gateway(redis_url: str, folder: Path, **values: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that serves the models of a folder to the keys of its ``keys.toml``."""
    settings = Settings(models=folder, outputs=str(folder / "outputs"), api_keys_file=folder / "keys.toml", **values)
    with listen("127.0.0.1", 0) as listener:
        async with (
            running_gateway(settings, redis_url, listener),
            httpx.AsyncClient(base_url=address_of(listener), timeout=LONG, trust_env=False) as http,
        ):
            yield http


@asynccontextmanager
async def drawing_worker(redis: "Redis", folder: Path, batch_limit: int = 8) -> AsyncIterator[None]:
    """A stand-in worker, whose gate is opened at the end."""
    worker = make_worker(redis, folder, batch_limit)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        open_gate(folder)
        worker.stop()
        await asyncio.wait_for(running, LONG)
