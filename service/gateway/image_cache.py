"""Encoded images, cached in a Redis of their own that evicts the least recently used (``allkeys-lru``)."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from service.gateway.errors import RateLimitExceededError
from service.gateway.single_flight import SingleFlight
from service.queue.messages import CacheOutcome, DeadlinePassed, Priority, RenderResult
from service.runtime import gateway_metrics as metrics
from service.runtime.batching import Batcher
from service.runtime.metrics import labelled
from service.runtime.pipelined_redis import PipelinedRedis
from service.runtime.redis import connect
from service.runtime.redis_keys import image_key

logger = logging.getLogger(__name__)

LOOKUP_TIMEOUT = 0.5
"""Seconds that a look-up may add to a request, connecting included."""

STORE_TIMEOUT = 2.0
"""Seconds that storing one image may take, in the background."""

RETRY_SECONDS = 1.0
"""Pause after a failure, so that an unreachable cache delays one request in a while and not every one."""

MAX_IMAGE_BYTES = 4 << 20
"""Larger images are not stored: they would evict dozens of others, and reading them takes too long."""

MAX_PENDING_BYTES = 64 << 20
"""Images that are answered and not stored yet. While the cache is slower than the workers, others are not stored."""

MAX_BATCH = 16
"""Images that one command looks up or stores: LOOKUP_TIMEOUT must be enough for them."""

TTL_SECONDS = 24 * 3600
"""Images of models and versions that are no longer served expire, even if memory is never short."""


class ImageCache:
    """Looks up images by keys that name their bytes, and renders those that are missing once per gateway.

    A cache that is slow, full, restarted or gone makes images miss; it never fails a request. Without ``redis`` all
    images miss.
    """

    def __init__(self, redis: "Redis | None") -> None:
        # Two connections: a look-up must not wait until images have been sent.
        self._reads, self._writes = (None if redis is None else PipelinedRedis(redis) for _ in range(2))
        self._flights = SingleFlight[RenderResult](DeadlinePassed, RateLimitExceededError)
        self._lookups = Batcher[tuple[str, asyncio.Future[bytes | None]]](self._look_up, MAX_BATCH)
        self._stores = Batcher[str](self._store, MAX_BATCH)
        self._pending: dict[str, bytes] = {}
        self._pending_bytes = 0
        self._failing = set[str]()
        self._retry_at = self._answered_at = 0.0

    async def fetch(
        self,
        key: str,
        render: Callable[[float], Awaitable[RenderResult]],
        timeout: float,  # noqa: ASYNC109 - passed on
        priority: Priority = "interactive",
    ) -> RenderResult:
        """Returns the image from the cache, from a running request for the same key and priority, or from ``render``.

        Rendered images are returned first and stored afterwards. A request that joins another one keeps its render
        running beyond the other's ``timeout``, but not beyond twice that. Raises DeadlinePassed after ``timeout``
        seconds, and the errors of ``render``, which gets the seconds that it may take.
        """
        started, flight = time.monotonic(), f"{priority}:{key}"
        if flight in self._flights:
            _count("shared")
        waits_until = asyncio.get_running_loop().time() + timeout
        try:
            result, shared = await self._flights.do(
                flight, lambda: self._obtain(key, render, started + 2 * timeout), waits_until
            )
        except TimeoutError:
            raise DeadlinePassed(f"the image was not ready within {timeout:g} s") from None
        return _cached(result.content, result.arithmetic, started, "shared") if shared else result

    async def used_bytes(self) -> int | None:
        """Memory that the server uses, which it compares with its ``maxmemory``; 0 without a server.

        None if it does not answer.
        """
        if self._reads is None:
            return 0
        info: bytes | None = await self._ask("INFO", self._reads.send("INFO", "memory"), LOOKUP_TIMEOUT)
        found = re.search(rb"^used_memory:(\d+)", info or b"", re.MULTILINE)
        return found and int(found[1])

    async def finish(self) -> None:
        """Waits until all pending images are stored, at most STORE_TIMEOUT."""
        await self._stores.finish()

    async def _obtain(
        self, key: str, render: Callable[[float], Awaitable[RenderResult]], deadline: float
    ) -> RenderResult:
        started = time.monotonic()
        value: bytes | None = self._pending.get(key)
        if value is None and self._reads is not None:
            found: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
            self._lookups.add((key, found))
            value = await found
        if value is not None:
            _count("hit")
            arithmetic, _, content = value.partition(b"\n")
            return _cached(content, arithmetic.decode(), started, "hit")
        _count("miss")
        result = await render(deadline - time.monotonic())
        # The arithmetic stays with the image: workers of another kind would render other bytes.
        self._store_soon(key, result.arithmetic.encode() + b"\n" + result.content)
        return result

    async def _look_up(self, lookups: list[tuple[str, "asyncio.Future[bytes | None]"]]) -> None:
        names = [image_key(key) for key, _ in lookups]
        contents: list[bytes | None] = [None] * len(names)
        assert self._reads is not None  # noqa: S101 - nothing is looked up without a server
        try:
            contents = await self._ask("GET", self._reads.send("MGET", *names), LOOKUP_TIMEOUT) or contents
        finally:
            for (_, found), content in zip(lookups, contents, strict=True):
                if not found.done():  # its request may have been cancelled
                    found.set_result(content)

    def _store_soon(self, key: str, content: bytes) -> None:
        size = len(content)
        if self._writes is None or key in self._pending or size > min(MAX_IMAGE_BYTES, self._room):
            return
        self._pending[key] = content
        self._pending_bytes += size
        self._stores.add(key)

    @property
    def _room(self) -> int:
        return MAX_PENDING_BYTES - self._pending_bytes

    async def _store(self, keys: list[str]) -> None:
        commands = [("SET", image_key(key), self._pending[key], "EX", TTL_SECONDS) for key in keys]
        assert self._writes is not None  # noqa: S101 - nothing is stored without a server
        await self._ask("SET", self._writes.send_all(commands), STORE_TIMEOUT)
        for key in keys:
            self._pending_bytes -= len(self._pending.pop(key))

    async def _ask(self, command: str, sending: Coroutine[Any, Any, Any], seconds: float) -> Any:
        """Returns the server's answer, or None when it fails. Logs each outage once."""
        started = time.monotonic()
        if started < self._retry_at:
            sending.close()
            return None
        try:
            async with asyncio.timeout(seconds):
                answer = await sending
        except (RedisError, OSError, ValueError) as error:  # TimeoutError is an OSError
            if not isinstance(error, ResponseError):  # those are answers, such as "out of memory"
                if self._answered_at > started:
                    return None  # the server answers others: this process is busy
                self._retry_at = time.monotonic() + RETRY_SECONDS
            if not self._failing:
                logger.warning("the image cache fails at %s: %s", command, str(error) or f"no answer in {seconds:g} s")
            self._failing.add(command)
            return None
        self._answered_at = time.monotonic()
        self._failing.discard(command)
        return answer


@asynccontextmanager
async def open_image_cache(url: str | None) -> AsyncIterator[ImageCache]:
    """Yields the cache at the address of a Redis, or without one a cache that is always empty. Raises InputError."""
    if url is None:
        yield ImageCache(None)
        return
    async with connect(url, "cache_url") as redis:
        cache = ImageCache(redis)
        try:
            yield cache
        finally:
            await cache.finish()


def _count(outcome: CacheOutcome) -> None:
    labelled(metrics.CACHE_REQUESTS, "pictures", outcome).inc()


def _cached(content: bytes, arithmetic: str, started: float, outcome: CacheOutcome) -> RenderResult:
    """A result that was not rendered for this request, which spent all its time waiting."""
    return RenderResult(content, time.monotonic() - started, 0.0, 0.0, arithmetic, outcome)
