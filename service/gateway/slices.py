"""Whole answers in slices, each of which waits until the client has taken most of what came before.

An answer that is given to the server in one piece is copied into the connection's buffer, and its request counts as
over: thousands of clients that read nothing would hold as many copies, which no limit sees.
"""

from collections.abc import Iterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.gateway.answers import AnswersUnderWay

SLICE_BYTES = 64 * 1024
"""asyncio's limit for a connection's buffer, above which the next slice waits."""


def slices(content: memoryview) -> Iterator[memoryview]:
    """The content in parts of up to SLICE_BYTES, none of which are copied."""
    for start in range(0, len(content), SLICE_BYTES):
        yield content[start : start + SLICE_BYTES]


class SlicedResponse(Response):
    """A response whose request is under way until the client has taken all but a slice of it.

    Raises:
        UnavailableError: before it has begun, where clients are taking as much as they may.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers: AnswersUnderWay = scope["app"].state.services.answers
        content = bytes(self.body)  # which it is, and which is not copied
        with answers.hold(content):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for part in slices(memoryview(content)):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})  # waits as the slices do
