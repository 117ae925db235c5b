"""Encoded pictures, kept in Redis for all gateways, and drawn once where several ask for one at once.

The least recently used go first. Every change is one script, so the count of bytes is exact whatever happens between
two of them. What Redis loses by itself, by an operator's eviction policy for instance, is noticed and put right. Where
Redis fails, the cache only misses: the queue, which lives in the same Redis, will tell.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service import metrics
from service.queue import CacheOutcome, DeadlinePassed, Priority, RenderResult, stop_task
from service.single_flight import SingleFlight

logger = logging.getLogger(__name__)

OVERHEAD = 512
"""Bytes that count for every picture beside its own. Measured with Valkey 9.1: 380 to 395, and its allocator rounds up.
Without them, pictures of a hundred bytes would take five times the limit."""

LARGEST_PART = 64
"""A picture above this part of the limit is not kept, for it would drive out dozens of others …"""

ALWAYS_KEPT = 2**20
"""… but one of so many bytes is, limit permitting: a tile of 512² as PNG has at most 0.8 MB."""

KEEP_SECONDS = 24 * 3600
"""How long a picture is kept for which nobody asks. Whatever is lost track of vanishes in the end, too, and the policy
``volatile-lru``, under which Redis evicts only keys that expire, spares the queue."""

LEASE_SECONDS = 3.0
"""How long others wait for a picture after the gateway that has it drawn was killed. It is renewed every third."""

_POLL_PART, _POLL_BOUNDS = 0.1, (0.01, 0.25)
"""Others look for the picture in steps of a tenth of the time that they have waited, of 10 to 250 ms."""

_SIZES = "creps:cache:sizes"

# used: sorted set of keys by their last use in µs. sizes: hash of each key's bytes and of their sum, 'total'.
_COMMON = """
local used, sizes = 'creps:cache:used', 'creps:cache:sizes'
local function picture(key) return 'creps:cache:picture:' .. key end
local function lock(flight) return 'creps:cache:lock:' .. flight end

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000000 + time[2]
end

local function forget(key)
    redis.call('ZREM', used, key)
    local size = redis.call('HGET', sizes, key)
    if size then
        redis.call('HDEL', sizes, key)
        redis.call('HINCRBY', sizes, 'total', -size)
    end
end
"""

_LOOK_UP = (
    _COMMON
    + """
-- ARGV: key, milliseconds to keep it, flight, token, lease in ms. Returns the picture. Where there is none: 1 if the
-- token has the lock now, else 0. An empty token asks for no lock.
local content = redis.call('GET', picture(ARGV[1]))
if content then
    -- One that the index does not know is left to expire. pcall: it is found even where memory is short.
    if redis.pcall('ZADD', used, 'XX', 'CH', now(), ARGV[1]) == 1 then
        redis.call('PEXPIRE', picture(ARGV[1]), ARGV[2])
    end
    return content
end
forget(ARGV[1])
if ARGV[4] ~= '' and redis.call('SET', lock(ARGV[3]), ARGV[4], 'NX', 'PX', ARGV[5]) then return 1 end
return 0
"""
)

_PUT = (
    _COMMON
    + """
-- ARGV: key, milliseconds to keep it, picture, bytes that it counts for, limit of all bytes.
local key, limit = ARGV[1], tonumber(ARGV[5])
redis.call('SET', picture(key), ARGV[3], 'PX', ARGV[2]) -- first, as nothing else is done where memory is short
local count = redis.call('ZCARD', used)
if count == 0 or count ~= redis.call('HLEN', sizes) - 1 then
    redis.call('DEL', used, sizes) -- if one of them was evicted, the other is worth nothing
end
forget(key)
redis.call('ZADD', used, now(), key)
redis.call('HSET', sizes, key, ARGV[4])
local total = redis.call('HINCRBY', sizes, 'total', ARGV[4])
while true do
    local oldest = redis.call('ZRANGE', used, 0, 0)[1]
    if not oldest or total <= limit and redis.call('EXISTS', picture(oldest)) == 1 then break end
    redis.call('UNLINK', picture(oldest))
    forget(oldest)
    total = tonumber(redis.call('HGET', sizes, 'total'))
end
"""
)

_LEASE = (
    _COMMON
    + """
-- ARGV: flight, token, ms from now at which the lock shall vanish; 0 for at once. Does nothing to another's lock.
if redis.call('GET', lock(ARGV[1])) == ARGV[2] then redis.call('PEXPIRE', lock(ARGV[1]), ARGV[3]) end
"""
)


class PictureCache:
    """Pictures by keys that name their bytes for ever.

    Args:
        redis: from :func:`service.queue.connect`.
        limit: bytes of all pictures together, OVERHEAD included; 0 keeps and shares none.
    """

    def __init__(self, redis: "Redis", limit: int) -> None:
        self._redis = redis
        self._limit = limit
        self._largest = min(max(limit // LARGEST_PART, ALWAYS_KEPT), limit)
        self._flights = SingleFlight[RenderResult]()
        self._complaint = "", ""
        self._run_look_up = redis.register_script(_LOOK_UP)
        self._run_put = redis.register_script(_PUT)
        self._run_lease = redis.register_script(_LEASE)

    async def fetch(
        self,
        key: str,
        render: Callable[[float], Awaitable[RenderResult]],
        timeout: float,  # noqa: ASYNC109 - it travels along
        priority: Priority = "interactive",
    ) -> RenderResult:
        """The picture: from the cache, from who is having it drawn already, or else from ``render``.

        Whoever waits for the same picture with the same priority in this process shares its outcome, errors too, but
        for the end of another's time; it is cancelled when all have left. Errors are not kept, and not told to other
        gateways, which then draw for themselves. So they do where a picture was too large to be kept.

        Args:
            render: draws the picture within so many seconds, with this priority.
            timeout: seconds for all.

        Raises:
            DeadlinePassed: it, or another gateway's, was not ready in time. And what ``render`` raises.
        """
        if not self._limit:
            return await render(timeout)
        started, flight = time.monotonic(), f"{priority}:{key}"
        if flight in self._flights:
            _count("shared")
        while True:
            joins, left = flight in self._flights, timeout - (time.monotonic() - started)
            obtaining = self._flights.do(flight, partial(self._obtain, key, flight, render, left))
            if not joins:
                return await obtaining
            try:
                async with asyncio.timeout(left):
                    result = await obtaining
            except TimeoutError:
                raise DeadlinePassed(f"another's picture was not ready within {timeout:g} s") from None
            except DeadlinePassed:
                if time.monotonic() - started >= timeout:
                    raise
                continue  # the time of the one who had it drawn is over, and ours is not
            return _found(result.content, started, "shared")

    async def get(self, key: str) -> bytes | None:
        """The picture, if it is kept; it is now the last that would go."""
        found = await self._look_up(key) if self._limit else None
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, content: bytes) -> None:
        """Keeps a picture, unless it is too large; older ones may have to go."""
        size = len(content) + OVERHEAD
        if size <= self._largest:
            with self._failures_noted("keeping one"):
                await self._run_put(args=[key, 1000 * KEEP_SECONDS, content, size, self._limit])

    async def held(self) -> int:
        """Bytes that count against the limit at present. May raise redis.exceptions.RedisError."""
        return int(await self._redis.hget(_SIZES, "total") or 0)

    async def _obtain(
        self, key: str, flight: str, render: Callable[[float], Awaitable[RenderResult]], limit: float
    ) -> RenderResult:
        started, token = time.monotonic(), uuid4().hex
        outcome: CacheOutcome = "hit"
        found = await self._look_up(key, flight, token)
        if found is False:
            outcome = "shared"
            await self._wait_for_other(flight, limit)
            found = await self._look_up(key, flight, token)
        if isinstance(found, bytes):
            _count(outcome)
            return _found(found, started, outcome)
        _count("miss")
        left = limit - (time.monotonic() - started)
        async with self._lock(flight, token, left) if found else nullcontext():
            result = await render(left)
            await self.put(key, result.content)
        return result

    async def _look_up(self, key: str, flight: str = "", token: str = "") -> bytes | bool | None:
        """The picture; else whether its flight's lock is ours now or another gateway's. None where Redis does not tell.
        Without a token nothing is locked."""
        found: bytes | int | None = None
        with self._failures_noted("looking one up"):
            found = await self._run_look_up(args=[key, 1000 * KEEP_SECONDS, flight, token, _lease_ms()])
        return bool(found) if isinstance(found, int) else found

    async def _wait_for_other(self, flight: str, limit: float) -> None:
        """Returns when the gateway that draws the picture has ended, whether or not the next one draws it by then: a
        picture that is not kept would else be waited for by one after the other."""
        started, lock = time.monotonic(), f"creps:cache:lock:{flight}"
        with self._failures_noted("waiting for one"):
            holder = await self._redis.get(lock)
            while holder is not None and await self._redis.get(lock) == holder:
                waited = time.monotonic() - started
                if waited > limit:
                    raise DeadlinePassed(f"another gateway's picture was not ready within {limit:g} s")
                low, high = _POLL_BOUNDS
                await asyncio.sleep(min(max(_POLL_PART * waited, low), high))

    @asynccontextmanager
    async def _lock(self, flight: str, token: str, seconds: float) -> AsyncIterator[None]:
        """Renews our lease while the block runs, for some seconds at most, and gives it up at the end."""
        renewing = asyncio.create_task(self._renew(flight, token, time.monotonic() + seconds))
        try:
            yield
        finally:
            await stop_task(renewing)
            with self._failures_noted("locking one"):
                await self._run_lease(args=[flight, token, 0])

    async def _renew(self, flight: str, token: str, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(LEASE_SECONDS / 3)
            with self._failures_noted("locking one"):
                await self._run_lease(args=[flight, token, _lease_ms()])

    @contextmanager
    def _failures_noted(self, action: str) -> Iterator[None]:
        """Ends the block where Redis fails. One line of log for each kind of failure in a row, which ends when what
        failed first succeeds: where memory is short, pictures are still found while none can be kept."""
        try:
            yield
        except RedisError as error:
            if str(error) != self._complaint[1]:
                logger.warning("the cache of pictures fails at %s: %s", action, error)
                self._complaint = action, str(error)
        else:
            if action == self._complaint[0]:
                self._complaint = "", ""


def _lease_ms() -> int:
    return round(1000 * LEASE_SECONDS)


def _count(outcome: CacheOutcome) -> None:
    metrics.CACHE_REQUESTS.labels(cache="pictures", result=outcome).inc()


def _found(content: bytes, started: float, outcome: CacheOutcome) -> RenderResult:
    """A picture that was not drawn for those who get it: all their time went in waiting."""
    return RenderResult(content, time.monotonic() - started, 0.0, 0.0, outcome)
