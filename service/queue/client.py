"""The gateways' side of the queue: submits requests, waits for their replies, measures the queue."""

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from uuid import uuid4

from msgspec import MsgspecError
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from model.spec import RenderSpec
from service.queue.messages import (
    BLOCK_MS,
    STREAM_OF,
    DeadlinePassed,
    Priority,
    QueueFull,
    RenderFailed,
    RenderRequest,
    RenderResult,
    Reply,
    ReplyHeader,
    Wanted,
    WorkerInfo,
    live_workers,
)
from service.runtime.batching import Batcher
from service.runtime.logs import current_log_context
from service.runtime.pipelined_redis import Command, PipelinedRedis, PipelinedScript
from service.runtime.redis import stop_task
from service.runtime.redis_keys import DEVICES_LOST, STREAMS, cancelled_key, replies_key
from service.runtime.tracing import current_traceparent

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER = 60
"""Seconds; upper bound of Retry-After."""


@dataclass(frozen=True)
class _Pending:
    """A call that waits for its reply. ``deadline`` is in the event loop's time."""

    reply: "asyncio.Future[Reply]"
    deadline: float


class RenderClient:
    """Submits requests and waits for their replies. An async context manager.

    At most ``queue_limit`` requests of each priority wait and run, over all gateways. What is submitted in one turn of
    the event loop is one command, and the replies of a batch are one entry.
    """

    _lost: str | None = None
    """Why replies cannot be read; None while they can."""

    def __init__(self, redis: "Redis", queue_limit: int) -> None:
        self._redis = redis
        self._queue_limit = queue_limit
        self._commands, self._blocking = PipelinedRedis(redis), PipelinedRedis(redis)
        self._append = PipelinedScript(self._commands, "service.queue", "submit")
        self._replies = replies_key(uuid4().hex)
        self._pending: dict[str, _Pending] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._submitted = {
            priority: Batcher[RenderRequest](partial(self._submit, stream)) for priority, stream in STREAM_OF.items()
        }
        self._cancelled = Batcher[RenderRequest](self._mark_cancelled)

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read_replies())
        return self

    async def __aexit__(self, *error: object) -> None:
        await stop_task(self._reader)
        for batcher in (*self._submitted.values(), self._cancelled):
            await batcher.finish()
        if self._timer is not None:
            self._timer.cancel()
        with contextlib.suppress(RedisError):
            await self._redis.delete(self._replies)

    async def render(
        self,
        spec: RenderSpec,
        timeout: float,  # noqa: ASYNC109 - it is a field of the request, too
        priority: Priority = "interactive",
        wanted: Wanted = "image",
    ) -> RenderResult:
        """Has a worker render and encode an image. Cancelling this call cancels the request.

        Args:
            spec: its ``model`` is a digest.
            timeout: seconds until the request expires.
            priority: "batch" is rendered when no interactive request waits.
            wanted: what the result's content is, see Wanted.

        Raises:
            QueueFull: the request was not queued.
            DeadlinePassed: there was no reply in time.
            RenderFailed: the worker could not render the image.
            redis.exceptions.RedisError: Redis cannot be reached, at once if that is known, or was lost meanwhile.
        """
        self.require()
        loop, submitted = asyncio.get_running_loop(), time.time()
        started = loop.time()
        context, traceparent = current_log_context(), current_traceparent()
        request = RenderRequest(
            uuid4().hex, spec, submitted, submitted + timeout, self._replies, context, traceparent, wanted
        )
        pending = self._pending[request.id] = _Pending(loop.create_future(), started + timeout)
        self._submitted[priority].add(request)
        self._expire_at(pending.deadline)
        try:
            header, content = await pending.reply
        except asyncio.CancelledError:
            self._cancelled.add(request)
            raise
        finally:
            del self._pending[request.id]
        if header.failure is not None:
            raise RenderFailed(header.failure, header.message, header.field)
        rendered, encoded = header.render_seconds, header.encode_seconds
        return RenderResult(
            content, max(loop.time() - started - rendered - encoded, 0.0), rendered, encoded, header.arithmetic
        )

    def require(self) -> None:
        """Raises redis.exceptions.ConnectionError at once if Redis is known to be lost, instead of after
        REDIS_TIMEOUT."""
        if self._lost is not None:
            raise RedisConnectionError(f"the queue is lost: {self._lost}")

    async def depths(self) -> dict[str, int]:
        """Entries of each stream, waiting and running, by the last part of the stream's name."""
        return {stream.rpartition(":")[2]: int(await self._redis.xlen(stream)) for stream in STREAMS}

    async def ages(self) -> dict[str, float]:
        """Seconds since the oldest entry of each stream was queued, 0 where there is none."""
        seconds, microseconds = await self._redis.time()
        now_ms = 1000 * seconds + microseconds / 1000
        ages = {}
        for stream in STREAMS:
            oldest: Any = await self._redis.xrange(stream, count=1)
            queued_ms = int(oldest[0][0].partition(b"-")[0]) if oldest else now_ms
            ages[stream.rpartition(":")[2]] = max(now_ms - queued_ms, 0.0) / 1000
        return ages

    async def devices_lost(self) -> int:
        """Number of workers that ended because their device had failed."""
        return int(await self._redis.get(DEVICES_LOST) or 0)

    async def workers(self) -> list[WorkerInfo]:
        """The live workers, ordered by id."""
        return await live_workers(self._redis)

    async def _submit(self, stream: str, requests: list[RenderRequest]) -> None:
        entries = [request.to_fields() for request in requests]
        fields = [text for entry in entries for field in entry.items() for text in field]
        try:
            appended, age_ms = await self._append((stream,), (self._queue_limit, 2 * len(entries[0]), *fields))
        except Exception as error:
            for request in requests:
                self._fail(request.id, error)
            return
        # Little's law: a request spends depth / rate in the queue, which is the age of the oldest.
        retry_after = min(max(math.ceil(age_ms / 1000), 1), MAX_RETRY_AFTER)
        for request in requests[appended:]:
            self._fail(request.id, QueueFull(retry_after))

    async def _mark_cancelled(self, requests: list[RenderRequest]) -> None:
        """Marks requests in place: Redis cannot tell the lag of a group once undelivered entries are deleted."""
        now = time.time()
        left_ms = {request.id: math.ceil((request.deadline - now) * 1000) for request in requests}
        marks = [("SET", cancelled_key(id_), 1, "PX", left) for id_, left in left_ms.items() if left > 0]
        if marks:
            with contextlib.suppress(RedisError):  # then they are rendered in vain
                await self._commands.send_all(marks)

    def _expire_at(self, deadline: float) -> None:
        """Keeps one timer for all calls, at the earliest deadline."""
        if self._timer is None or deadline < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer, now = None, asyncio.get_running_loop().time()
        for request_id, pending in self._pending.items():
            if pending.deadline <= now:
                self._fail(request_id, DeadlinePassed("no worker answered in time"))
            else:
                self._expire_at(pending.deadline)

    async def _read_replies(self) -> None:
        """Passes replies to their waiting calls for ever. While reading fails, the queue counts as lost."""
        read: list[bytes] = []
        while True:
            try:
                read = await self._read_reply(read)
                if self._lost is not None:
                    logger.info("the queue is back")
                self._lost = None
            except Exception as error:
                if self._lost is None:
                    unexpected = not isinstance(error, RedisError)
                    logger.warning("the queue is lost: %s", error, exc_info=unexpected)
                self._lost = str(error)
                self._fail_pending()
                read = []
                await asyncio.sleep(BLOCK_MS / 1000)

    async def _read_reply(self, read: list[bytes]) -> list[bytes]:
        """Reads at most one entry, since REDIS_TIMEOUT is meant for one image or REPLY_BYTES. Deletes the entries
        ``read`` first, and returns those to delete next time."""
        delete: list[Command] = [("XDEL", self._replies, *read)] if read else []
        next_entry = ("XREAD", "COUNT", 1, "BLOCK", BLOCK_MS, "STREAMS", self._replies, "0")
        streams = (await self._blocking.send_all([*delete, next_entry]))[-1] or ()
        entries = [entry for _, entries in streams for entry in entries]
        for entry, flat in entries:
            for name, content in zip(flat[::2], flat[1::2], strict=True):
                try:
                    header = ReplyHeader.decode(name)
                except MsgspecError:
                    logger.warning("a reply that cannot be read is removed: %s", entry.decode())
                else:
                    self._reply(header, content)
        return [entry for entry, _ in entries]

    def _reply(self, header: ReplyHeader, content: bytes) -> None:
        """Ends a call. A second reply to the same request is ignored."""
        pending = self._pending.get(header.id)
        if pending is not None and not pending.reply.done():
            pending.reply.set_result((header, content))

    def _fail(self, request_id: str, error: Exception) -> None:
        pending = self._pending.get(request_id)
        if pending is not None and not pending.reply.done():
            pending.reply.set_exception(error)
            pending.reply.exception()  # its call may have been cancelled, and will not ask

    def _fail_pending(self) -> None:
        """Fails all waiting calls, since Redis may come back empty, and changes to a new reply stream.

        A reply that cannot be read, perhaps because it is too large for the network, is so tried only once. The old
        stream expires.
        """
        for request_id in self._pending:
            self._fail(request_id, RedisConnectionError(f"the queue was lost: {self._lost}"))
        self._replies = replies_key(uuid4().hex)
