"""The workers' side of the queue: takes requests, keeps them alive, answers them, takes over what dead workers left."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from service import metrics
from service.jobs.task import Tasks, TileTask
from service.logs import log_context
from service.queue import (
    BATCH,
    BLOCK_MS,
    DEAD,
    GROUP,
    PICTURES,
    STREAMS,
    TILES,
    WORKERS,
    RenderFailed,
    Request,
    WorkerInfo,
    cancelled_key,
    failure_fields,
    live_workers,
    worker_key,
)

logger = logging.getLogger(__name__)

PATIENCE = 4.0
"""Seconds without a heartbeat after which a worker counts as dead."""

MAX_DELIVERIES = {PICTURES: 3, BATCH: 3, TILES: 5}
"""Workers that one request, or one tile, may kill before it is given up. A client would not wait for more; a job would,
and where workers die by chance, one of its many tiles may well meet that twice."""

MAX_DEAD_LETTERS = 1000

REPLY_SECONDS = 60
"""How long replies stay for a gateway that does not fetch them."""

_CANCELLED = f"""
-- Gives the fields of a request that nobody waits for any more one more: 'cancelled'.
local function marked(fields)
    for i = 1, #fields, 2 do
        if fields[i] == 'id' and redis.call('EXISTS', '{cancelled_key("")}' .. fields[i + 1]) == 1 then
            fields[#fields + 1], fields[#fields + 2] = 'cancelled', '1'
            break
        end
    end
    return fields
end
"""

# One script, since the device is idle while this goes to Redis and back.
_TAKE = (
    _CANCELLED
    + """
-- KEYS: streams, the most urgent first. ARGV: group, consumer, then for each stream most entries, and pixels that are
-- enough. Each entry's first field is its pixels. Returns the first stream in which something waits, and what is taken.
for i, stream in ipairs(KEYS) do
    local taken, pixels = {}, 0
    while #taken < tonumber(ARGV[2 * i + 1]) and pixels < tonumber(ARGV[2 * i + 2]) do
        local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', stream, '>')
        if not reply then break end
        local entry, fields = unpack(reply[1][2][1])
        taken[#taken + 1] = {entry, marked(fields)}
        pixels = pixels + (tonumber(fields[2]) or 0)
    end
    if #taken > 0 then return {stream, taken} end
end
return false
"""
)

_TAKE_OVER = (
    _CANCELLED
    + """
-- KEYS: streams, the most urgent first. ARGV: group, consumer, ms without a heartbeat, then stream and entry of each
-- that the consumer holds. Returns stream, entry, fields and deliveries, this one included, of the first request whose
-- worker is dead.
for i = 4, #ARGV, 2 do -- else our own late heartbeat would count as a worker lost
    redis.call('XCLAIM', ARGV[i], ARGV[1], ARGV[2], 0, ARGV[i + 1], 'JUSTID')
end
for _, stream in ipairs(KEYS) do
    while true do
        local pending = redis.call('XPENDING', stream, ARGV[1], 'IDLE', ARGV[3], '-', '+', 1)[1]
        if not pending then break end
        local claimed = redis.call('XCLAIM', stream, ARGV[1], ARGV[2], ARGV[3], pending[1])[1]
        if claimed then return {stream, claimed[1], marked(claimed[2]), pending[4] + 1} end
        redis.call('XACK', stream, ARGV[1], pending[1]) -- it is in the stream no more
    end
end
return false
"""
)

# KEYS: stream. ARGV: group, consumer. Removing a consumer drops what it still holds, so it must hold nothing.
_REMOVE_CONSUMER = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
end
return 0
"""


@dataclass(frozen=True)
class Delivery:
    """A request in the hands of this worker, until it is answered or dropped. ``entry`` of ``stream`` is its place.

    Attributes:
        cancelled: nobody waited for it any more when it was taken.
    """

    stream: str
    entry: bytes
    request: Request
    cancelled: bool = False


Taken = Delivery | TileTask
"""What a worker holds. A tile's task tells its entry itself."""


@dataclass(frozen=True)
class Budget:
    """How much a worker takes at once: most entries, and pixels that are enough."""

    entries: int
    pixels: int


class Consumer:
    """One worker's place in the consumer group. Every method may raise redis.exceptions.RedisError.

    Args:
        redis: from :func:`service.queue.connect`.
        name: the worker's id.
        patience: seconds without a heartbeat after which another worker's requests are taken over.
    """

    def __init__(self, redis: "Redis", name: str, patience: float) -> None:
        self.name = name
        self._redis = redis
        self._patience_ms = round(patience * 1000)
        self._held: set[tuple[str, bytes]] = set()
        self._tasks = Tasks(redis)
        self._take_waiting = redis.register_script(_TAKE)
        self._take_over = redis.register_script(_TAKE_OVER)
        self._remove_consumer = redis.register_script(_REMOVE_CONSUMER)

    @property
    def busy(self) -> bool:
        """Whether any request is held."""
        return bool(self._held)

    async def join(self) -> None:
        """Makes the group where it is missing. Requests that came before it are its first."""
        for stream in STREAMS:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def take(self, budgets: Mapping[str, Budget]) -> list[Taken]:
        """What waits already in the most urgent stream, up to its budget, or the first to come within half a second.

        No more are taken once their pixels are enough, so that no worker sits on what another could render.
        """
        limits = [limit for stream in STREAMS for limit in (budgets[stream].entries, budgets[stream].pixels)]
        if waiting := await self._take_waiting(keys=STREAMS, args=[GROUP, self.name, *limits]):
            stream, entries = waiting
            return await self._accept(stream.decode(), [(entry, _pairs(flat)) for entry, flat in entries])
        awaited: dict[Any, Any] = dict.fromkeys(STREAMS, ">")
        streams: Any = await self._redis.xreadgroup(GROUP, self.name, awaited, count=1, block=BLOCK_MS)
        return [one for name, entries in streams for one in await self._accept(name.decode(), entries)]

    async def take_over(self) -> Taken | None:
        """The oldest of those whose worker has died. One that has cost too many workers is given up instead.

        They come one at a time, so that a deadly request does not take others with it again.
        """
        held = [text for place in self._held for text in place]
        while found := await self._take_over(keys=STREAMS, args=[GROUP, self.name, self._patience_ms, *held]):
            stream, entry, flat, deliveries = found
            if taken := await self._accept_again(stream.decode(), entry, _pairs(flat), deliveries):
                return taken
        return None

    async def answer(self, delivery: Delivery, fields: Mapping[str, Any]) -> None:
        """Publishes the reply, then takes the request out of the queue, in one transaction."""
        request = delivery.request
        await self._finish(delivery, lambda transaction: _publish(transaction, request.reply, request.id, fields))

    async def drop(self, delivery: Delivery) -> None:
        """Takes a request that nobody waits for out of the queue."""
        await self._finish(delivery, lambda transaction: None)

    def release(self, batch: Iterable[Taken]) -> None:
        """Holds these no longer: they have been ended, or will be taken over and done again."""
        for taken in batch:
            self._held.discard((taken.stream if isinstance(taken, Delivery) else TILES, taken.entry))

    async def beat(self, info: WorkerInfo) -> None:
        """The heartbeat: this worker is alive, and so is every request that it holds."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(WORKERS, self.name)
            pipeline.set(worker_key(self.name), info.to_json(), px=self._patience_ms)
            self._claim_held(pipeline)
            await pipeline.execute()

    async def sweep(self) -> None:
        """Removes what dead workers left behind, once none of their requests is left."""
        alive = {worker.id for worker in await live_workers(self._redis)}
        for stream in STREAMS:
            for consumer in await self._redis.xinfo_consumers(stream, GROUP):
                name = consumer["name"].decode()
                if name not in alive and name != self.name and consumer["idle"] > self._patience_ms:
                    await self._remove(stream, name)

    async def leave(self) -> None:
        """Signs this worker off. Requests that it still holds stay, for others to take over."""
        await self._redis.delete(worker_key(self.name))
        for stream in STREAMS:
            await self._remove(stream, self.name)

    def _claim_held(self, pipeline: Pipeline) -> None:
        for stream in STREAMS:
            entries: list[Any] = [entry for name, entry in self._held if name == stream]
            if entries:
                pipeline.xclaim(stream, GROUP, self.name, 0, entries, justid=True)

    async def _remove(self, stream: str, name: str) -> None:
        if await self._remove_consumer(keys=[stream], args=[GROUP, name]):
            await self._redis.srem(WORKERS, name)

    async def _accept(self, stream: str, entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Taken]:
        accepted: list[Taken] = []
        for entry, fields in entries:
            try:
                taken: Taken = (
                    TileTask.from_fields(entry, fields)
                    if stream == TILES
                    else Delivery(stream, entry, Request.from_fields(fields), b"cancelled" in fields)
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                with contextlib.suppress(RedisError):  # then it comes again; the others are held
                    await self._bury(stream, entry, fields, f"a worker could not read the request: {error!r}")
                continue
            self._held.add((stream, entry))
            accepted.append(taken)
        return accepted

    async def _accept_again(
        self, stream: str, entry: bytes, fields: Mapping[bytes, bytes], deliveries: int
    ) -> Taken | None:
        metrics.REDELIVERIES.inc()
        if deliveries > (most := MAX_DELIVERIES[stream]):
            await self._bury(stream, entry, fields, f"given up: {most} workers were lost while they drew it")
            return None
        with log_context(**_log_fields(fields)):
            logger.warning("entry %s of %s is taken over, delivery %d", entry.decode(), stream, deliveries)
        return next(iter(await self._accept(stream, [(entry, fields)])), None)

    async def _bury(self, stream: str, entry: bytes, fields: Mapping[bytes, bytes], reason: str) -> None:
        """Puts the request aside with its error, and tells who asked."""
        with log_context(**_log_fields(fields)):
            logger.error("entry %s of %s goes to %s: %s", entry.decode(), stream, DEAD, reason)
        metrics.DEAD_LETTERS.inc()
        if stream == TILES:
            job, tile = fields.get(b"job", b"").decode(errors="replace"), fields.get(b"tile", b"")
            task = TileTask(entry, job, int(tile) if tile.isdigit() else -1, tries=0)
            await self._tasks.fail(task, reason, self.name)
            return
        letter: dict[Any, Any] = {**fields, "stream": stream, "entry": entry, "worker": self.name, "error": reason}
        async with self._redis.pipeline(transaction=True) as transaction:
            transaction.xadd(DEAD, letter, maxlen=MAX_DEAD_LETTERS)
            if b"reply" in fields and b"id" in fields:
                failure = failure_fields(RenderFailed("failed", reason))
                _publish(transaction, fields[b"reply"].decode(), fields[b"id"].decode(), failure)
            _remove_entry(transaction, stream, entry)
            await transaction.execute()

    async def _finish(self, delivery: Delivery, publish: Callable[[Pipeline], None]) -> None:
        """Whether or not this works, the request is no longer held: if not, it will be taken over and done again."""
        try:
            async with self._redis.pipeline(transaction=True) as transaction:
                publish(transaction)
                _remove_entry(transaction, delivery.stream, delivery.entry)
                await transaction.execute()
        finally:
            self.release([delivery])


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """An entry's fields as scripts return them."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _log_fields(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """What messages about an entry say, which nobody may be able to read."""
    if b"job" in fields:
        return {"job": fields[b"job"].decode(errors="replace")}
    try:
        return {str(name): str(value) for name, value in json.loads(fields[b"context"]).items()}
    except (KeyError, ValueError, AttributeError):
        return {}


def _publish(transaction: Pipeline, reply: str, request_id: str, fields: Mapping[str, Any]) -> None:
    message: dict[Any, Any] = {"id": request_id, **fields}
    transaction.xadd(reply, message)
    transaction.expire(reply, REPLY_SECONDS)


def _remove_entry(transaction: Pipeline, stream: str, entry: bytes) -> None:
    transaction.xack(stream, GROUP, entry)
    transaction.xdel(stream, entry)
