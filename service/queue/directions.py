"""Requests to find the directions of a model, which takes a worker seconds to minutes, once.

The result is an object in the store, for all gateways and workers.
"""

import time
from typing import Any

from redis.asyncio import Redis

from model.latents.direction import VERSION
from service.runtime.redis_keys import DIRECTIONS_WANTED, directions_failed_key, directions_lock_key

MAX_ATTEMPTS = 3

FAILED_SECONDS = 300
"""How long nothing is tried again after a failure."""


def directions_path(digest: str) -> str:
    """The object with a model's directions, as model.latents.direction encodes them."""
    return f"directions/{VERSION}-{digest}.npz"


class DirectionRequests:
    """The models whose directions are wanted. Every method may raise redis.exceptions.RedisError."""

    def __init__(self, redis: "Redis", owner: str = "") -> None:
        self._redis = redis
        self._owner = owner

    async def add(self, digest: str) -> bool:
        """Ask for a model's directions. False if they could not be found lately."""
        if await self._redis.exists(directions_failed_key(digest)):
            return False
        await self._redis.hsetnx(DIRECTIONS_WANTED, digest, "0")
        return True

    async def claim(self, seconds: float) -> str | None:
        """A model that no other worker works on, for this one to work on for so long; None if there is none."""
        wanted: Any = await self._redis.hkeys(DIRECTIONS_WANTED)
        digests: list[str] = sorted(name.decode() for name in wanted)
        for digest in digests:
            if not await self._redis.set(directions_lock_key(digest), self._owner, nx=True, px=round(1000 * seconds)):
                continue
            if await self._redis.hincrby(DIRECTIONS_WANTED, digest, 1) <= MAX_ATTEMPTS:
                return digest
            await self.finish(digest, failed=True)  # it may be what killed the other workers
        return None

    async def keep(self, digest: str, seconds: float) -> None:
        """Go on working on a claimed model."""
        await self._redis.set(directions_lock_key(digest), self._owner, px=round(1000 * seconds))

    async def finish(self, digest: str, *, failed: bool) -> None:
        """The directions of a claimed model are stored, or could not be found."""
        if failed:
            await self._redis.set(directions_failed_key(digest), round(time.time()), ex=FAILED_SECONDS)
        await self._redis.hdel(DIRECTIONS_WANTED, digest)
        await self._redis.delete(directions_lock_key(digest))

    async def release(self, digest: str) -> None:
        """Leave a claimed model to others, as if it had not been claimed."""
        await self._redis.hincrby(DIRECTIONS_WANTED, digest, -1)
        await self._redis.delete(directions_lock_key(digest))
