"""Budgets of API keys per minute, counted in Redis for all gateways together."""

import math
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from service.gateway.api_keys import APIKey
from service.gateway.errors import AboveRateLimitError, RateLimitExceededError
from service.queue.client import RenderClient


class RateLimits:
    """Charges API keys for requests and pixels. Every method may raise redis.exceptions.RedisError, at once if the
    queue, which is in the same Redis, is known to be lost.

    The window slides. Its count is interpolated from those of two whole minutes, so that a key takes two numbers in
    Redis for each budget.
    """

    def __init__(self, redis: "Redis", client: RenderClient) -> None:
        self._client = client
        pool: dict[str, Any] = {"connection_pool": redis.connection_pool}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix="creps:budget", **pool)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def charge_request(self, key: APIKey) -> None:
        """Count one request. If it raises RateLimitExceededError, nothing is counted."""
        await self._charge(key, "requests", key.requests_per_minute, 1)

    async def charge_pixels(self, key: APIKey | None, pixels: int) -> None:
        """Count pixels that are to be rendered, if there is a key. As :meth:`charge_request` otherwise."""
        if key is not None:
            await self._charge(key, "pixels", key.pixels_per_minute, pixels)

    async def refund_pixels(self, key: APIKey | None, pixels: int) -> None:
        """Undo a recent :meth:`charge_pixels`: the pixels will not be rendered."""
        if key is not None and key.pixels_per_minute is not None:
            # If a new minute has begun since, its count starts below zero, which offsets the count of the last one.
            item = RateLimitItemPerMinute(key.pixels_per_minute, namespace="pixels")
            await self._limiter.hit(item, key.name, cost=-pixels)

    async def _charge(self, key: APIKey, unit: str, budget: int | None, cost: int) -> None:
        if budget is None:
            return
        self._client.require()
        limit = f"the key {key.name} has {budget} {unit} a minute"
        if cost > budget:
            raise AboveRateLimitError(f"this takes {cost} {unit}, and {limit}", retry_after=None)
        item = RateLimitItemPerMinute(budget, namespace=unit)
        if await self._limiter.hit(item, key.name, cost=cost):
            return
        left = (await self._limiter.get_window_stats(item, key.name)).remaining
        # A key at its limit regains its budget evenly over the minute.
        seconds = math.ceil(60 * (cost - left) / budget)
        raise RateLimitExceededError(f"{limit}, of which {left} are left", min(max(seconds, 1), 60))
