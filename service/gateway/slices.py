"""Whole answers in slices, each of which waits until the client has taken most of what came before.

An answer that is given to the server in one piece is copied into the connection's buffer, and its request counts as
over: thousands of clients that read nothing would hold as many copies, which no limit sees.
"""

from collections.abc import Iterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.gateway.problems import RETRY_SECONDS, ProblemResponse

SLICE_BYTES = 64 * 1024
"""asyncio's limit for a connection's buffer, above which the next slice waits."""

MAX_UNDER_WAY = 256 << 20
"""Bytes of all whole answers that are being taken from one gateway: five pictures of 4096² that nothing compresses, or
hundreds of usual ones. Clients that are slow on purpose could else fill its memory."""


def slices(content: memoryview) -> Iterator[memoryview]:
    """The content in parts of up to SLICE_BYTES, none of which are copied."""
    for start in range(0, len(content), SLICE_BYTES):
        yield content[start : start + SLICE_BYTES]


class AnswersUnderWay:
    """Bytes of a gateway's whole answers that clients are taking."""

    def __init__(self) -> None:
        self.bytes = 0


class SlicedResponse(Response):
    """A response whose request is under way until the client has taken all but a slice of it.

    It becomes a 503 where MAX_UNDER_WAY would be passed, unless it is the only one: what is larger alone is a matter
    of the limits of pixels.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        under_way: AnswersUnderWay = scope["app"].state.services.answers
        size = len(self.body)
        if under_way.bytes and under_way.bytes + size > MAX_UNDER_WAY:
            detail = f"answers of {MAX_UNDER_WAY >> 20} MiB are under way in this gateway, which is the limit"
            return await ProblemResponse(503, detail, {"Retry-After": str(RETRY_SECONDS)})(scope, receive, send)
        under_way.bytes += size
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for part in slices(memoryview(self.body)):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})  # waits as the slices do
        finally:
            under_way.bytes -= size
        return None
