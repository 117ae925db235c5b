"""A Redis client for the commands that images take: one connection for all callers, and one future for each call.

redis-py hands every call a connection of its pool, and a task and two timers besides, which cost more than Redis itself
(BENCHMARKS.md). Here it only opens the connection, with its address, TLS, user and time limits, and closes it with the
pool. Commands that block (``BLOCK``) hold up those behind them, so they need a client of their own.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.runtime.redis import REDIS_TIMEOUT, read_script

Argument = str | int | float | bytes
Command = Sequence[Argument]

_INCOMPLETE = object()


@dataclass(slots=True)
class _Call:
    """Commands of one caller, and their replies so far."""

    future: "asyncio.Future[list[Any]]"
    commands: int
    replies: list[Any] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """A connection that redis-py has opened. Replies come in the order of their commands."""

    def __init__(self, opened: AbstractConnection) -> None:
        self.opened = opened
        self.error: RedisError | None = None
        self._loop = asyncio.get_running_loop()
        self._timeout = opened.socket_timeout or REDIS_TIMEOUT
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since = 0.0
        self._calls: deque[_Call] = deque()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_INCOMPLETE
        )
        assert opened._writer is not None  # noqa: S101 - it is connected
        self._transport = opened._writer.transport
        self._streams = self._transport.get_protocol()  # redis-py waits for its end when it closes the connection
        self._transport.set_protocol(self)

    def send(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        """The replies, errors among them."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._calls:
            self._waiting_since = self._loop.time()
        self._calls.append(_Call(future, len(commands)))
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        self._transport.write(b"".join(packed))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout, self._check)
        return future

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._receive(reply)
        except InvalidResponse as error:
            self._fail(RedisConnectionError(f"this is no reply of Redis: {error}"))

    def _receive(self, reply: Any) -> None:
        self._waiting_since = self._loop.time()
        call = self._calls[0]
        call.replies.append(reply)
        if len(call.replies) == call.commands:
            self._calls.popleft()
            if not call.future.done():  # its caller may have been cancelled
                call.future.set_result(call.replies)

    def _check(self) -> None:
        """One timer for all calls: fails if the next reply is late."""
        self._timer = None
        if not self._calls:
            return
        left = self._waiting_since + self._timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._fail(RedisTimeoutError(f"Redis did not answer within {self._timeout:g} s"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RedisConnectionError(f"the connection to Redis was lost: {exc or 'it was closed'}"))
        self._streams.connection_lost(exc)

    def _fail(self, error: RedisError) -> None:
        if self.error is not None:
            return
        self.error = error
        self._transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        for call in self._calls:
            if not call.future.done():
                call.future.set_exception(error)


class PipelinedRedis:
    """Sends commands without waiting for the replies to those before. Every method may raise RedisError.

    Connects at the first command, and again at the first one after the connection was lost; repeats no command. A
    connection is lost if a reply takes longer than the ``socket_timeout`` of ``redis``, whose pool lends and closes it.
    A caller that is cancelled leaves its commands in place.
    """

    def __init__(self, redis: "Redis") -> None:
        self._pool = redis.connection_pool
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()

    async def send(self, *command: Argument) -> Any:
        """The reply to a command: bytes, an integer, a list of them, or None."""
        return (await self.send_all([command]))[0]

    async def send_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands that are sent at once. Raises the first error among them once all are there."""
        connection = self._connection
        if connection is None or connection.error is not None:
            connection = await self._connect()
        replies = await connection.send(commands)
        _raise_first_error(replies)
        return replies

    async def transact(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to commands that are executed all, with no others between them, or not at all."""
        replies: list[Any] = (await self.send_all([("MULTI",), *commands, ("EXEC",)]))[-1]
        _raise_first_error(replies)
        return replies

    async def _connect(self) -> _Connection:
        async with self._connecting:
            if self._connection is not None:
                if self._connection.error is None:  # another caller has connected
                    return self._connection
                lost, self._connection = self._connection.opened, None
                await lost.disconnect(nowait=True)
                await self._pool.release(lost)
            opened: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            self._connection = _Connection(opened)
            return self._connection


class PipelinedScript:
    """A Lua script, made of the files ``lua/NAME.lua`` of a package, one after the other."""

    def __init__(self, redis: PipelinedRedis, package: str, *names: str) -> None:
        self._redis = redis
        self._text = read_script(package, *names)
        self._sha = sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str] = (), args: Sequence[Argument] = ()) -> Any:
        """Runs the script. A server that does not know it yet gets its text."""
        try:
            return await self._redis.send("EVALSHA", self._sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self._redis.send("EVAL", self._text, len(keys), *keys, *args)


def _raise_first_error(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
