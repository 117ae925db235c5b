"""The queue's and the cache's servers with the arguments of the manifests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from service.runtime.embedded_redis import find_binary
from service.runtime.redis import connect
from tests.deploy.manifests import all_pods, build, in_bytes
from tests.service.waiting import answers, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def is_on_disk(redis: "Redis") -> bool:
    answer = await redis.waitaof(1, 0, 4_000)
    return bool(answer[0] == 1)


@asynccontextmanager
async def running(name: str, folder: Path) -> AsyncIterator["Redis"]:
    """The server of a workload, with its data in a folder, killed at the end."""
    socket = folder / "socket"
    arguments = [str(folder) if one == "/data" else one for one in all_pods(build("cpu"))[name].container["args"]]
    command = [find_binary(), *arguments, "--port", "0", "--unixsocket", socket]
    server = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with connect(f"unix://{socket}") as redis:
            await eventually(partial(answers, redis))
            yield redis
    finally:
        server.kill()
        await server.wait()
        socket.unlink()


def memory_limit(name: str) -> int:
    return in_bytes(all_pods(build("cpu"))[name].container["resources"]["limits"]["memory"])


async def memory_settings(redis: "Redis") -> tuple[int, str]:
    settings: Any = await redis.config_get("maxmemory", "maxmemory-policy")
    return int(settings["maxmemory"]), settings["maxmemory-policy"]


async def test_the_queue_outlives_its_server_and_is_never_evicted(tmp_path: Path) -> None:
    for answer in (None, b"kept"):
        async with running("creps-redis", tmp_path) as redis:
            assert await redis.get("name") == answer
            memory, policy = await memory_settings(redis)
            await redis.set("name", "kept")
            await eventually(lambda: is_on_disk(redis))
    assert policy == "noeviction"
    assert memory_limit("creps-redis") >= 2 * memory, "it holds changed pages twice while it rewrites its file"


async def test_the_cache_evicts_and_is_not_on_disk(tmp_path: Path) -> None:
    async with running("creps-cache", tmp_path) as redis:
        memory, policy = await memory_settings(redis)
        await redis.set("name", "lost")
        assert await redis.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}
    assert policy == "allkeys-lru"
    assert memory_limit("creps-cache") >= 1.5 * memory > 0
    assert not all_pods(build("cpu"))["creps-cache"].claims
