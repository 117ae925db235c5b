"""The workers' side of the queue: reads entries, keeps them claimed, replies, claims those of dead workers."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from msgspec import MsgspecError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from model.spec import RenderSpec
from service.jobs.tile_tasks import TileTask, TileTasks
from service.queue.messages import BLOCK_MS, RenderFailed, RenderRequest, Reply, ReplyHeader, WorkerInfo, live_workers
from service.runtime import worker_metrics as metrics
from service.runtime.logs import log_context
from service.runtime.pipelined_redis import Argument, Command, PipelinedRedis, PipelinedScript
from service.runtime.redis import register_script
from service.runtime.redis_keys import (
    BATCH,
    DEAD,
    DEVICES_LOST,
    GROUP,
    IMAGES,
    JOBS_WAITING,
    STREAMS,
    TILES,
    WORKERS,
    cancelled_key,
    worker_key,
)

logger = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT = 4.0
"""Seconds without a heartbeat after which a worker counts as dead."""

MAX_DELIVERIES = {IMAGES: 3, BATCH: 3, TILES: 5}
"""Workers that an entry may kill before it becomes a dead letter. Tiles get more, since a job has many of them: where
workers die by chance, one tile may well meet two deaths."""

MAX_DEAD_LETTERS = 1000

REPLY_BYTES = 1 << 20
"""Bytes of images that one entry of a reply stream holds, unless a single image has more."""

REPLY_SECONDS = 60
"""Time to live of replies that a gateway does not read."""

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, MsgspecError)
"""Errors of entries that cannot be parsed."""


@dataclass
class QueuedRender:
    """A request that this worker holds until it is answered or dropped.

    ``stream`` and ``entry`` are its place in the queue; ``cancelled``: its gateway waits no longer, as far as is known.
    """

    stream: str
    entry: bytes
    request: RenderRequest
    cancelled: bool = False

    @property
    def spec(self) -> RenderSpec:
        return self.request.spec

    @property
    def log_fields(self) -> Mapping[str, str]:
        return self.request.context

    def is_wanted(self) -> bool:
        """Whether a client may still wait for the reply. Thread-safe."""
        return not self.cancelled and time.time() <= self.request.deadline


QueueEntry = QueuedRender | TileTask


@dataclass(frozen=True)
class BatchLimit:
    """Bounds of one read: no more than ``entries``, and none after the sum of their pixels has reached ``pixels``."""

    entries: int
    pixels: int


class Consumer:
    """One worker's place in the consumer group. Every method may raise redis.exceptions.RedisError.

    After ``heartbeat_timeout`` seconds without a heartbeat another worker counts as dead.
    """

    def __init__(self, redis: "Redis", name: str, heartbeat_timeout: float) -> None:
        self.name = name
        self._redis = redis
        self._timeout_ms = round(heartbeat_timeout * 1000)
        self._held: set[tuple[str, bytes]] = set()
        self._tasks = TileTasks(redis)
        self._commands, self._blocking, self._replies = (PipelinedRedis(redis) for _ in range(3))
        self._read = PipelinedScript(self._commands, "service.queue", "cancelled", "read")
        self._claim_stale = PipelinedScript(self._commands, "service.queue", "cancelled", "claim_stale")
        self._remove_consumer = register_script(redis, "service.queue", "remove_consumer")

    @property
    def busy(self) -> bool:
        return bool(self._held)

    async def join(self) -> None:
        """Creates the group where it is missing. Entries that were queued before are delivered, too."""
        for stream in STREAMS:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(self, limits: Mapping[str, BatchLimit]) -> list[QueueEntry]:
        """A batch of the most urgent stream that has entries, or of the tiles of waiting jobs, within its limit.

        Where all are empty, waits up to BLOCK_MS for the next entry.
        """
        found, jobs_wait = await self._read_streams(limits)
        if not found and jobs_wait and limits[TILES].entries:
            entries = await self._tasks.take(self.name, limits[TILES].entries, limits[TILES].pixels)
            found = await self._accept(TILES, entries)
        if found:
            return found
        asked = [stream for stream in STREAMS if limits[stream].entries]
        options = ("COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS", *asked, *">" * len(asked))
        streams = await self._blocking.send("XREADGROUP", "GROUP", GROUP, self.name, *options) or ()
        return [item for name, entries in streams for item in await self._accept(name.decode(), entries)]

    async def read_waiting(self, limits: Mapping[str, BatchLimit]) -> list[QueueEntry]:
        """A batch of the most urgent stream that has entries, within its limit; waits for none."""
        return (await self._read_streams(limits))[0]

    async def _read_streams(self, limits: Mapping[str, BatchLimit]) -> tuple[list[QueueEntry], bool]:
        """As :meth:`read_waiting`; and, where that is nothing, whether jobs have tiles that are not queued yet."""
        bounds = [bound for stream in STREAMS for bound in (limits[stream].entries, limits[stream].pixels)]
        found = await self._read((JOBS_WAITING, *STREAMS), (GROUP, self.name, *bounds))
        if isinstance(found, int):
            return [], bool(found)
        stream, entries = found
        return await self._accept(stream.decode(), entries), False

    async def claim_stale(self) -> QueueEntry | None:
        """Claims the oldest entry whose worker has died; those that killed too many workers become dead letters.

        One at a time, so that a deadly request does not take others with it again.
        """
        held = [text for place in self._held for text in place]
        while found := await self._claim_stale(STREAMS, (GROUP, self.name, self._timeout_ms, *held)):
            stream, entry, flat, deliveries = found
            if item := await self._redelivered(stream.decode(), entry, flat, deliveries):
                return item
        return None

    async def reply(self, replies: Sequence[tuple[QueuedRender, Reply]]) -> None:
        """Publishes replies and deletes their requests, each in one transaction with its own reply.

        Releases the requests in any case: where Redis fails, they are claimed and rendered again.
        """
        try:
            for part in _split(replies):
                published = _publish((item.request.reply, reply) for item, reply in part)
                deleted = _delete_entries((item.stream, item.entry) for item, _ in part)
                await self._replies.transact([*published, *deleted])
        finally:
            self.release([item for item, _ in replies])

    async def look_for_cancelled(self, items: Sequence[QueuedRender]) -> None:
        """Updates ``cancelled`` of requests that have been held for a while."""
        marks = await self._redis.mget([cancelled_key(item.request.id) for item in items])
        for item, mark in zip(items, marks, strict=True):
            item.cancelled = item.cancelled or mark is not None

    async def drop(self, items: Sequence[QueuedRender]) -> None:
        """Deletes and releases requests whose clients have gone."""
        try:
            await self._commands.transact([*_delete_entries((item.stream, item.entry) for item in items)])
        finally:
            self.release(items)

    def release(self, items: Iterable[QueueEntry]) -> None:
        """Holds these no longer: they were deleted, or another worker shall claim them."""
        for item in items:
            self._held.discard((item.stream, item.entry))

    async def heartbeat(self, info: WorkerInfo) -> None:
        """Publishes that this worker is alive, and renews its claim to what it holds."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(WORKERS, self.name)
            pipeline.set(worker_key(self.name), info.to_json(), px=self._timeout_ms)
            for stream in STREAMS:
                if entries := [entry for held_in, entry in self._held if held_in == stream]:
                    pipeline.xclaim(stream, GROUP, self.name, 0, entries, justid=True)  # type: ignore[arg-type]
            await pipeline.execute()

    async def count_lost_device(self) -> None:
        """In Redis, because the metrics of this process end with it."""
        await self._redis.incr(DEVICES_LOST)

    async def sweep(self) -> None:
        """Removes dead workers from the group, once their entries have been claimed by others."""
        alive = {worker.id for worker in await live_workers(self._redis)}
        for stream in STREAMS:
            for consumer in await self._redis.xinfo_consumers(stream, GROUP):
                name = consumer["name"].decode()
                if name not in alive and name != self.name and consumer["idle"] > self._timeout_ms:
                    await self._remove(stream, name)

    async def leave(self) -> None:
        """Removes this worker from the group. Entries that it still holds stay, for others to claim."""
        await self._redis.delete(worker_key(self.name))
        for stream in STREAMS:
            await self._remove(stream, self.name)

    async def _remove(self, stream: str, name: str) -> None:
        if await self._remove_consumer(keys=[stream], args=[GROUP, name]):
            await self._redis.srem(WORKERS, name)

    async def _accept(self, stream: str, entries: Iterable[tuple[bytes, Sequence[bytes]]]) -> list[QueueEntry]:
        """Parses entries and holds them. Those that cannot be parsed become dead letters."""
        accepted: list[QueueEntry] = []
        for entry, flat in entries:
            fields = _pairs(flat)
            try:
                item: QueueEntry = (
                    TileTask.from_fields(entry, fields)
                    if stream == TILES
                    else QueuedRender(stream, entry, RenderRequest.from_fields(fields), b"cancelled" in fields)
                )
            except _UNREADABLE as error:
                with contextlib.suppress(RedisError):  # it is delivered again; the other entries are held
                    await self._dead_letter(stream, entry, fields, f"a worker could not read the request: {error!r}")
                continue
            self._held.add((stream, entry))
            accepted.append(item)
        return accepted

    async def _redelivered(
        self, stream: str, entry: bytes, flat: Sequence[bytes], deliveries: int
    ) -> QueueEntry | None:
        metrics.REDELIVERIES.inc()
        fields = _pairs(flat)
        if deliveries > (limit := MAX_DELIVERIES[stream]):
            await self._dead_letter(stream, entry, fields, f"given up: {limit} workers were lost while they drew it")
            return None
        with log_context(**_log_fields(fields)):
            logger.warning("entry %s of %s is taken over, delivery %d", entry.decode(), stream, deliveries)
        return next(iter(await self._accept(stream, [(entry, flat)])), None)

    async def _dead_letter(self, stream: str, entry: bytes, fields: Mapping[bytes, bytes], reason: str) -> None:
        """Moves an entry to the dead letters; its client, or its job, gets the reason."""
        with log_context(**_log_fields(fields)):
            logger.error("entry %s of %s goes to %s: %s", entry.decode(), stream, DEAD, reason)
        metrics.DEAD_LETTERS.inc()
        if stream == TILES:
            job, tile = fields.get(b"job", b"").decode(errors="replace"), fields.get(b"tile", b"")
            task = TileTask(entry, job, int(tile) if tile.isdigit() else -1, tries=0)
            await self._tasks.fail(task, reason, self.name)
            return
        notes: dict[bytes, Argument] = {b"stream": stream, b"entry": entry, b"worker": self.name, b"error": reason}
        letter = chain(*fields.items(), *notes.items())
        commands: list[Command] = [("XADD", DEAD, "MAXLEN", "~", MAX_DEAD_LETTERS, "*", *letter)]
        if b"reply" in fields and b"id" in fields:
            header = ReplyHeader.of_failure(fields[b"id"].decode(), RenderFailed("failed", reason))
            commands += _publish([(fields[b"reply"].decode(), (header, b""))])
        await self._commands.transact([*commands, *_delete_entries([(stream, entry)])])


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """An entry's fields, which come as a flat list."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _log_fields(fields: Mapping[bytes, bytes]) -> Mapping[str, str]:
    """Fields of log messages about an entry that perhaps cannot be parsed."""
    if b"job" in fields:
        return {"job": fields[b"job"].decode(errors="replace")}
    try:
        return RenderRequest.from_fields(fields).context
    except _UNREADABLE:
        return {}


def _split(replies: Sequence[tuple[QueuedRender, Reply]]) -> Iterator[list[tuple[QueuedRender, Reply]]]:
    """Parts with at most REPLY_BYTES of images each, or a single larger one."""
    part: list[tuple[QueuedRender, Reply]] = []
    size = 0
    for item, reply in replies:
        if part and size + len(reply[1]) > REPLY_BYTES:
            yield part
            part, size = [], 0
        part.append((item, reply))
        size += len(reply[1])
    if part:
        yield part


def _publish(replies: Iterable[tuple[str, Reply]]) -> Iterator[Command]:
    """Commands that add one entry to each reply stream."""
    entries: dict[str, list[bytes]] = {}
    for stream, (header, content) in replies:
        entries.setdefault(stream, []).extend((header.encode(), content))
    for stream, flat in entries.items():
        yield "XADD", stream, "*", *flat
        yield "EXPIRE", stream, REPLY_SECONDS


def _delete_entries(places: Iterable[tuple[str, bytes]]) -> Iterator[Command]:
    entries: dict[str, list[bytes]] = {}
    for stream, entry in places:
        entries.setdefault(stream, []).append(entry)
    for stream, found in entries.items():
        yield "XACK", stream, GROUP, *found
        yield "XDEL", stream, *found
