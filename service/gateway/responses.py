"""Responses that wait for slow clients, and the memory that they take.

Starlette hands a whole body to the server at once, which copies it into the connection's buffer and ends the request:
clients that read nothing would hold any number of copies. A :class:`BackpressureResponse` is sent in slices instead,
and counts as in flight until the client has read nearly all of it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.gateway.errors import UnavailableError

SLICE_BYTES = 64 * 1024
"""asyncio's high-water mark: with more than this in a connection's buffer, the next slice waits."""


class InFlightBytes:
    """Counts the bytes of rendered images that clients have not read yet. An image shared by requests counts once.

    Args:
        limit: bytes of all images together. A single image may be larger: its size is limited in pixels.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._holders = Counter[int]()

    def require_room(self) -> None:
        """Raise UnavailableError if half of the limit is used: a new image might not fit once it is rendered."""
        if 2 * self._bytes >= self._limit:
            raise self._full()

    @contextmanager
    def hold(self, content: bytes) -> Iterator[None]:
        """Count an image while the block runs. Raises UnavailableError if it would exceed the limit."""
        key = id(content)
        if key not in self._holders:
            if self._bytes and self._bytes + len(content) > self._limit:
                raise self._full()
            self._bytes += len(content)
        self._holders[key] += 1
        try:
            yield
        finally:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self._bytes -= len(content)

    def _full(self) -> UnavailableError:
        return UnavailableError(f"clients are reading images of {self._bytes} bytes, the limit is {self._limit}")


def slices(content: memoryview) -> Iterator[memoryview]:
    """The content in slices of SLICE_BYTES, without copies."""
    for start in range(0, len(content), SLICE_BYTES):
        yield content[start : start + SLICE_BYTES]


class BackpressureResponse(Response):
    """A response that ends once the client has read all but the last slice. Raises UnavailableError before the first
    byte if it does not fit into :class:`InFlightBytes`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        in_flight: InFlightBytes = scope["app"].state.app_state.in_flight
        content = bytes(self.body)  # no copy: it is bytes already
        with in_flight.hold(content):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if len(content) <= SLICE_BYTES:  # the server waits for no client that has so little to read
                await send({"type": "http.response.body", "body": content})
                return
            for part in slices(memoryview(content)):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})  # waits for the last slice, too
