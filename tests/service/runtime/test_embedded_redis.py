"""The embedded server, as a real process."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from model.errors import InputError
from service.runtime import embedded_redis as module
from service.runtime.embedded_redis import embedded_redis, find_binary
from service.runtime.redis import connect
from tests.service.waiting import LONG, eventually, is_running

pytestmark = pytest.mark.anyio

PARENT = """
import asyncio
from service.runtime.embedded_redis import embedded_redis
from service.runtime.redis import connect

async def main():
    async with embedded_redis() as url, connect(url) as redis:
        print((await redis.info("server"))["process_id"], url.removeprefix("unix://"), flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


async def process_id(url: str) -> int:
    async with connect(url) as redis:
        return int((await redis.info("server"))["process_id"])


async def test_it_is_private_forgets_everything_and_leaves_nothing() -> None:
    async with embedded_redis() as url, connect(url) as redis:
        folder = Path(url.removeprefix("unix://")).parent
        assert folder.stat().st_mode & 0o077 == 0
        settings = await redis.config_get("port", "save", "appendonly")
        assert settings == {"port": "0", "save": "", "appendonly": "no"}
        pid = await process_id(url)
    assert not is_running(pid)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["a#b", "a?db=1", "50%41", "two words", "'\"\\"])
async def test_its_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix=name) as folder:  # tmp_path may be too long for a socket
        monkeypatch.setattr(tempfile, "tempdir", folder)
        async with embedded_redis() as url, connect(url) as redis:
            assert await redis.ping()


async def test_it_starts_again_at_the_same_address_when_killed() -> None:
    async with embedded_redis() as url:
        first = await process_id(url)
        os.kill(first, signal.SIGKILL)

        async def is_back() -> bool:
            try:
                return await process_id(url) != first
            except RedisError:
                return False

        await eventually(is_back)


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGTERM, signal.SIGINT))],
)
async def test_it_dies_with_its_parent(number: int) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert parent.stdout
    pid, path = (await asyncio.wait_for(parent.stdout.readline(), LONG)).decode().split()
    server = int(pid)
    assert is_running(server)
    parent.send_signal(number)
    await parent.communicate()
    await eventually(lambda: not is_running(server))
    shutil.rmtree(Path(path).parent, ignore_errors=True)  # which nobody was left to do


async def test_a_server_on_path_is_taken_where_the_wheel_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redis-server").symlink_to(find_binary())
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == tmp_path / "redis-server"
    async with embedded_redis() as url:
        assert is_running(await process_id(url))


def test_without_any_server_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"creps-serve\[serve\]. with pip, or a redis-server") as error:
        find_binary()
    assert error.value.field == "redis_url"


async def test_a_server_that_cannot_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text('#!/bin/sh\nwhile [ "$1" != --logfile ]; do shift; done\necho no luck today >"$2"\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setattr(module, "find_binary", lambda setting: broken)
    with pytest.raises(InputError, match="did not start: no luck today"):
        async with embedded_redis():
            pytest.fail("it must not start")
