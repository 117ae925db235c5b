"""The queue's server with the arguments that the StatefulSet gives it."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.embedded_redis import find_binary
from service.queue import connect
from tests.deploy.manifests import all_pods, build, in_bytes, settings_of
from tests.service.waiting import answers, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def is_on_disk(redis: "Redis") -> bool:
    answer = await redis.waitaof(1, 0, 4_000)
    return bool(answer[0] == 1)


async def test_what_it_holds_outlives_it_and_is_never_evicted(tmp_path: Path) -> None:
    container = all_pods(build("cpu"))["creps-redis"].container
    socket = tmp_path / "socket"
    arguments = [str(tmp_path) if one == "/data" else one for one in container["args"]]
    command = [find_binary(), *arguments, "--port", "0", "--unixsocket", socket]
    for answer in (None, b"kept"):
        server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        try:
            async with connect(f"unix://{socket}") as redis:
                await eventually(partial(answers, redis))
                assert await redis.get("name") == answer
                assert (await redis.config_get("maxmemory-policy")) == {"maxmemory-policy": "noeviction"}
                memory = int((await redis.config_get("maxmemory"))["maxmemory"] or 0)
                await redis.set("name", "kept")
                await eventually(lambda: is_on_disk(redis))
        finally:
            server.kill()
            await server.wait()
        socket.unlink()
    assert memory >= 2 * int(settings_of(build("cpu"))["CREPS_CACHE_BYTES"])
    assert in_bytes(container["resources"]["limits"]["memory"]) >= 2 * memory
