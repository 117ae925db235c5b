"""Encoded pictures, kept in Redis for all gateways, and locks that tell who draws one that is not there.

The least recently used go first. Every change is one script, so the count of bytes is exact whatever happens between
two of them. What Redis loses by itself, by an operator's eviction policy for instance, is noticed and put right. Where
Redis fails, pictures are only missing: the queue, which lives in the same Redis, will tell.
"""

import logging
from collections.abc import Awaitable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

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


class PictureStore:
    """Pictures by keys that name their bytes for ever.

    Args:
        redis: from :func:`service.queue.connect`.
        limit: bytes of all pictures together, OVERHEAD included; 0 keeps none.
    """

    def __init__(self, redis: "Redis", limit: int) -> None:
        self.limit = limit
        self._redis = redis
        self._largest = min(max(limit // LARGEST_PART, ALWAYS_KEPT), limit)
        self._complaint = "", ""
        self._run_look_up = redis.register_script(_LOOK_UP)
        self._run_put = redis.register_script(_PUT)
        self._run_lease = redis.register_script(_LEASE)

    async def get(self, key: str) -> bytes | None:
        """The picture, if it is kept; it is now the last that would go."""
        found = await self._look_up(key)
        return found if isinstance(found, bytes) else None

    async def get_or_lock(self, key: str, flight: str, token: str, seconds: float) -> bytes | bool | None:
        """The picture as by :meth:`get`; else whether the flight's lock is ours now, for so many seconds, or another's
        already. None where Redis does not tell.

        Args:
            token: names who holds the lock.
        """
        found = await self._look_up(key, flight, token, seconds)
        return bool(found) if isinstance(found, int) else found

    async def put(self, key: str, content: bytes) -> None:
        """Keeps a picture, unless it is too large; older ones may have to go."""
        size = len(content) + OVERHEAD
        if size <= self._largest:
            args: list[str | bytes | int] = [key, 1000 * KEEP_SECONDS, content, size, self.limit]
            await self._answer("keeping one", self._run_put(args=args))

    async def held(self) -> int:
        """Bytes that count against the limit at present. May raise redis.exceptions.RedisError."""
        return int(await self._redis.hget(_SIZES, "total") or 0)

    async def holder(self, flight: str) -> bytes | None:
        """The token that holds the flight's lock. None where nobody does, or Redis does not tell."""
        holder: bytes | None = await self._answer("waiting for one", self._redis.get(f"creps:cache:lock:{flight}"))
        return holder

    async def lease(self, flight: str, token: str, seconds: float) -> None:
        """Holds the flight's lock, if it is ours still, for so many seconds from now; 0 gives it up."""
        await self._answer("locking one", self._run_lease(args=[flight, token, round(1000 * seconds)]))

    async def _look_up(self, key: str, flight: str = "", token: str = "", seconds: float = 0) -> bytes | int | None:
        args: list[str | int] = [key, 1000 * KEEP_SECONDS, flight, token, round(1000 * seconds)]
        found: bytes | int | None = await self._answer("looking one up", self._run_look_up(args=args))
        return found

    async def _answer(self, action: str, asked: Awaitable[Any]) -> Any:
        """The answer of Redis, None where it fails. One line of log for each kind of failure in a row, which ends when
        what failed first succeeds: where memory is short, pictures are still found while none can be kept."""
        try:
            answer = await asked
        except RedisError as error:
            if str(error) != self._complaint[1]:
                logger.warning("the cache of pictures fails at %s: %s", action, error)
                self._complaint = action, str(error)
            return None
        if action == self._complaint[0]:
            self._complaint = "", ""
        return answer
