"""Connections to Redis, their time limits, and the Lua scripts that run there."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from model.errors import InputError

REDIS_TIMEOUT = 5.0
"""Seconds for one answer of Redis, such as an image of 50 MB, and for a free connection of the pool."""

CONNECT_TIMEOUT = 3.0

MAX_CONNECTIONS = 64

OPTIONS = (
    *("db", "username", "password", "client_name", "health_check_interval", "max_connections", "timeout"),
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive"),
)
"""Options that an address may have. Others, such as decode_responses, would change what the service reads."""


def check_address(url: str) -> str:
    """Returns a valid address. Raises ValueError, whose message has no part of the address, which may have a password.

    Connects to nothing.
    """
    try:
        address = urlsplit(url)
        options = parse_qs(address.query, keep_blank_values=True)
        valid = address.port != 0 and not address.fragment
    except ValueError:  # a port that is no number, or half a pair of brackets
        valid = False
    if valid and address.scheme == "unix":
        valid = bool(address.path) and address.hostname is None
    elif valid:
        valid = address.scheme in ("redis", "rediss") and bool(re.fullmatch(r"(/\d*)?", address.path))
    if not valid:
        raise ValueError(
            "must be redis://HOST:PORT/NUMBER, rediss://HOST:PORT/NUMBER or unix:///PATH; percent-encode the password"
        )
    known = [name in OPTIONS or (address.scheme == "rediss" and name.startswith("ssl_")) for name in options]
    if not all(known):
        raise ValueError(f"has an unknown option: there are {', '.join(OPTIONS)}, and ssl_… for rediss://")
    try:
        pool = _make_pool(url)
        connection = pool.connection_class(**pool.connection_kwargs)
        if isinstance(connection, SSLConnection):
            connection.ssl_context.get()  # reads the files of certificates
    except (TypeError, ValueError, OSError, RedisError) as error:
        raise ValueError(f"has an invalid option: {error}") from None
    return url


def connect(url: str, setting: str = "redis_url") -> "Redis":
    """A client that connects at its first command. It never retries: callers know best what may be tried again.

    Raises InputError for ``setting`` if the address is invalid.
    """
    try:
        check_address(url)
    except ValueError as error:
        raise InputError(setting, str(error)) from None
    return Redis.from_pool(_make_pool(url))


def _make_pool(url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=REDIS_TIMEOUT,
        protocol=2,
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=CONNECT_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def register_script(redis: "Redis", package: str, *names: str) -> AsyncScript:
    """The Lua script of :func:`read_script`."""
    return redis.register_script(read_script(package, *names))


@cache
def read_script(package: str, *names: str) -> str:
    """The files ``lua/NAME.lua`` of a package, one after the other."""
    return "".join((resources.files(package) / "lua" / f"{name}.lua").read_text() for name in names)


async def stop_task(task: "asyncio.Task[Any]") -> None:
    """Cancels a task that talks to Redis, and waits for its end.

    Before Python 3.12, ``asyncio.wait_for``, which redis-py uses, can swallow a cancellation, so it is repeated.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


@asynccontextmanager
async def running_task(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs a coroutine as a task, which is stopped at the end of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await stop_task(task)
