"""Waiting for what happens in other processes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

LONG = 120.0
"""Seconds; enough for anything on a slow machine. Only failing tests wait so long."""


async def eventually(condition: Callable[[], Awaitable[object] | object]) -> None:
    """Returns once the condition holds. Fails after LONG."""
    end = time.monotonic() + LONG
    while True:
        result = condition()
        if await result if inspect.isawaitable(result) else result:
            return
        assert time.monotonic() < end, f"never came true: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(0.02)


async def answers(redis: "Redis") -> bool:
    """Whether Redis is ready."""
    try:
        return bool(await redis.ping())
    except RedisError:
        return False


def is_running(pid: int) -> bool:
    """Whether a process runs. Zombies do not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
