"""Connections of clients that are slow on purpose, or send what is no HTTP. uvicorn alone would wait for ever."""

import asyncio
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.gateway.browser_headers import ON_EVERY_ANSWER
from service.gateway.limits import MAX_HEAD
from service.gateway.problems import ProblemResponse

HEAD_SECONDS = 10.0
"""From a new connection, or from an answer, to the end of the next request's head."""

STALL_SECONDS = 30.0
"""How long a client may take none of an answer …"""

LEAST_RATE = 1024
"""… or less than so many bytes a second."""

MAX_CONNECTIONS = 4096
"""Open connections of one gateway. Those that come above it are closed at once."""


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with time limits on heads and on answers, and problem details for what is no HTTP."""

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self.logger.warning("%d connections are open, which is the limit: another is closed", MAX_CONNECTIONS)
            transport.abort()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and self._head_timer:
            self._head_timer.cancel()

    def on_response_complete(self) -> None:
        self._await_head()  # first, for the next request may have come already
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_progress()

    def resume_writing(self) -> None:
        if self._write_timer and not self.transport.is_closing():
            self._write_timer.cancel()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called where ``h11`` refuses a request; its exception is still being handled."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        detail = {
            431: f"address and headers are above the limit of {MAX_HEAD} bytes",
            501: "this transfer coding is not known",
        }.get(status, "this is no HTTP/1.1 request")
        self._refuse(status, detail)

    def _await_head(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up_head)

    def _give_up_head(self) -> None:
        if self.transport.is_closing():  # which takes until the client has taken the rest of its answer
            if not self._write_timer or self._write_timer.cancelled():
                self._expect_progress()
            return
        begun, _ = self.conn.trailing_data
        if begun and self.conn.our_state is h11.IDLE:
            self._refuse(408, f"the request's head did not arrive within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        problem = ProblemResponse(status, detail, {**ON_EVERY_ANSWER, "Connection": "close"})
        if self.conn.our_state is h11.IDLE:
            event = h11.Response(status_code=problem.status_code, headers=problem.raw_headers)
            for part in (event, h11.Data(data=bytes(problem.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
        self.transport.close()

    def _expect_progress(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(STALL_SECONDS, self._check_progress, size)

    def _check_progress(self, before: int) -> None:
        taken = before - self.transport.get_write_buffer_size()
        if taken < LEAST_RATE * STALL_SECONDS:
            self.transport.abort()
        else:
            self._expect_progress()
