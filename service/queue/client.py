"""The gateways' side of the queue: sends requests, waits for their replies, tells how much waits."""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from model.spec import RenderSpec
from service.logs import current_log_context
from service.queue import (
    BLOCK_MS,
    STREAM_OF,
    STREAMS,
    DeadlinePassed,
    Priority,
    QueueFull,
    RenderFailed,
    RenderResult,
    Request,
    WorkerInfo,
    cancelled_key,
    live_workers,
    stop_task,
)
from service.tracing import current_traceparent

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER = 60
"""Seconds; the longest that a refused client is told to wait."""

# KEYS: stream. ARGV: limit, then the entry's fields and values. As entries leave the stream when they are answered, its
# length counts those that wait and those that run. Returns −1, or the age of the oldest in milliseconds if it is full.
_SUBMIT = """
if redis.call('XLEN', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
    return -1
end
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1]
local now = redis.call('TIME')
return now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(oldest, '%d+'))
"""


class RenderClient:
    """Submits requests and waits for their replies, as an async context manager.

    Args:
        redis: from :func:`service.queue.connect`.
        queue_limit: requests of each priority that may wait and run, over all gateways.
    """

    _lost: str | None = None
    """Why the queue cannot be used, since it last could."""

    def __init__(self, redis: "Redis", queue_limit: int) -> None:
        self._redis = redis
        self._queue_limit = queue_limit
        self._submit = redis.register_script(_SUBMIT)
        self._replies = _new_stream()
        self._waiting: dict[bytes, asyncio.Future[dict[bytes, bytes] | RedisConnectionError]] = {}
        self._commands: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read_replies())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await stop_task(self._reader)
        if self._commands:
            await asyncio.wait(self._commands)
        with contextlib.suppress(RedisError):
            await self._redis.delete(self._replies)

    async def render(
        self,
        spec: RenderSpec,
        timeout: float,  # noqa: ASYNC109 - it travels along
        priority: Priority = "interactive",
    ) -> RenderResult:
        """Has a worker render and encode a picture. If this call is cancelled, no worker starts on it any more.

        Args:
            spec: its ``model`` is a digest.
            timeout: seconds until nobody waits for the picture any more.
            priority: pictures of "batch" are drawn when no other picture waits.

        Raises:
            QueueFull: it was not queued.
            DeadlinePassed: there was no answer in time.
            RenderFailed: a worker answered that it cannot be done.
            redis.exceptions.RedisError: the queue cannot be reached, or was lost while this waited.
        """
        submitted, started = time.time(), time.monotonic()
        request = Request(
            uuid4().hex,
            spec,
            submitted,
            submitted + timeout,
            self._replies,
            current_log_context(),
            current_traceparent(),
        )
        answer = self._waiting[request.id.encode()] = asyncio.get_running_loop().create_future()
        enqueuing = self._start(self._enqueue(request, STREAM_OF[priority]))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(enqueuing)
                reply = await answer
        except TimeoutError:
            raise DeadlinePassed(f"no worker answered within {timeout:g} s") from None
        except asyncio.CancelledError:
            self._start(self._mark_cancelled(request, enqueuing))
            raise
        finally:
            del self._waiting[request.id.encode()]
        if isinstance(reply, RedisConnectionError):
            raise reply
        return _result(reply, time.monotonic() - started)

    def require(self) -> None:
        """Raises redis.exceptions.ConnectionError at once where the queue is known to be lost, rather than after the
        time that Redis is given to answer."""
        if self._lost is not None:
            raise RedisConnectionError(f"the queue is lost: {self._lost}")

    async def depths(self) -> dict[str, int]:
        """Requests of each priority and tiles that wait or run, by the streams' short names."""
        return {stream.rpartition(":")[2]: int(await self._redis.xlen(stream)) for stream in STREAMS}

    async def ages(self) -> dict[str, float]:
        """Seconds since the oldest of them was queued, 0 where there is none, by the streams' short names."""
        seconds, microseconds = await self._redis.time()
        now_ms = 1000 * seconds + microseconds / 1000
        ages = {}
        for stream in STREAMS:
            oldest: Any = await self._redis.xrange(stream, count=1)
            queued_ms = int(oldest[0][0].partition(b"-")[0]) if oldest else now_ms
            ages[stream.rpartition(":")[2]] = max(now_ms - queued_ms, 0.0) / 1000
        return ages

    async def workers(self) -> list[WorkerInfo]:
        """The live workers, ordered by id."""
        return await live_workers(self._redis)

    async def _enqueue(self, request: Request, stream: str) -> None:
        fields = [text for field in request.to_fields().items() for text in field]
        age_ms = int(await self._submit(keys=[stream], args=[self._queue_limit, *fields]))
        if age_ms >= 0:
            # Little's law: depth / rate is the time that a request spends in the queue, and the oldest has spent it.
            raise QueueFull(min(max(math.ceil(age_ms / 1000), 1), MAX_RETRY_AFTER))

    async def _mark_cancelled(self, request: Request, enqueuing: "asyncio.Task[None]") -> None:
        """The entry stays where it is, for a group that loses undelivered entries no longer knows its lag."""
        await asyncio.wait([enqueuing])
        left_ms = math.ceil((request.deadline - time.time()) * 1000)
        if left_ms > 0:
            with contextlib.suppress(RedisError):  # then it is rendered for nobody
                await self._redis.set(cancelled_key(request.id), 1, px=left_ms)

    def _start(self, command: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Runs a command in a task of its own, which goes on when the one who asked is cancelled."""
        task = asyncio.create_task(command)
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # perhaps nobody asks any more
        return task

    async def _read_replies(self) -> None:
        """Hands replies to those who wait, whatever happens. While none can be read the queue counts as lost."""
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
                self._give_up()
                read = []
                await asyncio.sleep(BLOCK_MS / 1000)

    async def _read_reply(self, read: list[bytes]) -> list[bytes]:
        """Hands over the next reply, if one comes within BLOCK_MS, and returns its entry's id in a list.

        One at a time, since the time that Redis has for an answer is for one picture.

        Args:
            read: entries that are not needed any more. They are removed on the way.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:  # within a transaction, no read waits
            if read:
                pipeline.xdel(self._replies, *read)
            pipeline.xread({self._replies: "0"}, count=1, block=BLOCK_MS)
            streams: Any = (await pipeline.execute())[-1]
        entries = [entry for _, entries in streams for entry in entries]
        for entry, fields in entries:
            if b"id" in fields:
                self._settle(fields[b"id"], fields)
            else:
                logger.warning("a reply that names no request is removed: %s", entry.decode())
        return [entry for entry, _ in entries]

    def _give_up(self) -> None:
        """Tells all who wait that the queue was lost.

        A server that comes back may have forgotten what was asked, so the clients had better ask again. From now on
        replies come to another stream: a reply that cannot be read, too large for the network perhaps, is not tried for
        ever. Nobody waits for what the old one holds, and it expires.
        """
        for request_id in self._waiting:
            self._settle(request_id, RedisConnectionError(f"the queue was lost: {self._lost}"))
        self._replies = _new_stream()

    def _settle(self, request_id: bytes, outcome: dict[bytes, bytes] | RedisConnectionError) -> None:
        answer = self._waiting.get(request_id)
        if answer and not answer.done():  # a second reply to the same request is ignored
            answer.set_result(outcome)


def _new_stream() -> str:
    return f"creps:replies:{uuid4().hex}"


def _result(reply: Mapping[bytes, bytes], seconds: float) -> RenderResult:
    if b"error" in reply:
        error = json.loads(reply[b"error"])
        raise RenderFailed(error["kind"], error["message"], error["field"])
    render, encode = float(reply[b"render"]), float(reply[b"encode"])
    return RenderResult(reply[b"content"], max(seconds - render - encode, 0.0), render, encode)
