"""HTTP/1.1 connections: uvicorn's protocol with limits for clients that send no end of a head, or read nothing."""

import asyncio
import logging
import re
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)

MAX_HEAD = 32 * 1024
"""Bytes of a request's head that are read before it is refused."""

SEND_TIMEOUT = 60.0
"""Seconds for a client to read what waits in a connection's buffer, about 64 KiB: about 1 KiB/s."""

DISCONNECTED = "creps.disconnected"
"""Key of a request's scope: a future that is done once the client has closed the connection."""

_UPGRADE = re.compile(rb"\r\nUpgrade:", re.IGNORECASE)
"""Offers of other protocols, such as h2c from Java's client, are hidden from httptools: it would not read the body."""


class HTTPProtocol(HttpToolsProtocol):
    """One connection."""

    _disconnected: "asyncio.Future[None]"
    _in_head = _in_body = False
    _head_bytes = 0
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._disconnected = self.loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_send_timer()
        self._disconnected.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._in_body and _UPGRADE.search(data):
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"\r\nIgnored:", head) + end + rest
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self.send_400_response(f"The request's head is above the limit of {MAX_HEAD} bytes.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Start the application. Targets are split at the first question mark and not parsed: absolute addresses are
        resolved by ProxyHeadersMiddleware, and all others are no path of ours."""
        self._in_head, self._in_body = False, True
        raw_path, _, query = self.url.partition(b"?")
        self.url = b"/"
        super().on_headers_complete()
        path = raw_path.decode("ascii")
        self.scope["raw_path"], self.scope["query_string"] = raw_path, query
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope[DISCONNECTED] = self._disconnected  # type: ignore[literal-required]

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(SEND_TIMEOUT, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_send_timer()

    def _give_up(self) -> None:
        logger.info("the client has not read its response for %g s", SEND_TIMEOUT)
        self.transport.abort()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
