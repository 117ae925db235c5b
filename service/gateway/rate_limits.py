"""How much each key may ask for in a minute, counted in Redis for all gateways together."""

import math
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from service.gateway.errors import BudgetExceededError
from service.gateway.keys import Key

MINUTE = 60
"""Seconds."""


class Budgets:
    """Charges keys for what they ask for. Every method may raise redis.exceptions.RedisError.

    The window slides: a minute is any minute. Its beginning is reckoned from the counts of two whole minutes, so that a
    key costs two numbers in Redis, whatever it asks for.
    """

    def __init__(self, redis: "Redis") -> None:
        pool: dict[str, Any] = {"connection_pool": redis.connection_pool}
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix="creps:budget", **pool)
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def charge_request(self, key: Key) -> None:
        """Counts one request. Raises BudgetExceededError, and then counts nothing."""
        await self._charge(key, "requests", key.requests_per_minute, 1)

    async def charge_pixels(self, key: Key, pixels: int) -> None:
        """Counts pixels that are to be drawn. Raises BudgetExceededError, and then counts nothing."""
        await self._charge(key, "pixels", key.pixels_per_minute, pixels)

    async def give_back_pixels(self, key: Key, pixels: int) -> None:
        """Takes back what :meth:`charge_pixels` counted a moment ago, for they will not be drawn."""
        if key.pixels_per_minute is not None:
            # Where a minute has ended in between, the new one's count begins below zero, which makes up for what the
            # last one's still counts.
            await self._limiter.hit(_per_minute("pixels", key.pixels_per_minute), key.name, cost=-pixels)

    async def _charge(self, key: Key, unit: str, budget: int | None, cost: int) -> None:
        if budget is None:
            return
        limit = f"the key {key.name} has {budget} {unit} a minute"
        if cost > budget:
            raise BudgetExceededError(key.name, f"this takes {cost} {unit}, and {limit}", retry_after=None)
        item = _per_minute(unit, budget)
        if await self._limiter.hit(item, key.name, cost=cost):
            return
        left = (await self._limiter.get_window_stats(item, key.name)).remaining
        # A key at its limit regains its budget evenly over the minute.
        seconds = math.ceil(MINUTE * (cost - left) / budget)
        raise BudgetExceededError(key.name, f"{limit}, of which {left} are left", min(max(seconds, 1), MINUTE))


def _per_minute(unit: str, budget: int) -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(budget, namespace=unit)
