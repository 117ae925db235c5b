"""What a request may be and cost before anything looks at it: its head, its body, and how many there are at once.

Connections have limits of their own: protocol.py. Plain ASGI.
"""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.middleware import PROBES
from service.gateway.problems import RETRY_SECONDS, ProblemResponse
from service.gateway.proxies import route_path

MAX_TARGET = 8 * 1024
"""Bytes of an address, query included, as RFC 9110 section 4.1 recommends at least."""

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
"""Of names and values together; a browser sends some 1,000."""

MAX_HEAD = 32 * 1024
"""Of both, with all that is between them, as they come in: protocol.py waits for no more."""

MAX_BODY = 64 * 1024
"""Bytes of a request's body; a long one has a few hundred."""

BODY_SECONDS = 10.0
"""From the first look at a body to its end: 64 KiB at the pace of a bad telephone line."""

MAX_REQUESTS = 1024
"""Requests under way in one gateway, probes excepted. The queue refuses pictures long before; these are watched jobs,
downloads, and clients that hold connections for the harm of it."""


class HeadLimit:
    """Refuses addresses and headers of a size that no client of ours needs, and two lengths of one body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := _problem_with_head(scope)):
            return await problem(scope, receive, send)
        return await self.app(scope, receive, send)


def _problem_with_head(scope: Scope) -> ProblemResponse | None:
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    if target > MAX_TARGET:
        return ProblemResponse(414, f"the address has {target} bytes, above the limit of {MAX_TARGET}")
    headers = scope["headers"]
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in headers}:
        # RFC 9112, section 6.1: what stands between us may have believed the other, and have sent two requests.
        detail = "there must not be both Content-Length and Transfer-Encoding"
        return ProblemResponse(400, detail, {"Connection": "close"})
    if len(headers) > MAX_HEADERS:
        return ProblemResponse(431, f"there are {len(headers)} headers, above the limit of {MAX_HEADERS}")
    size = sum(len(name) + len(value) for name, value in headers)
    if size > MAX_HEADER_BYTES:
        return ProblemResponse(431, f"the headers have {size} bytes, above the limit of {MAX_HEADER_BYTES}")
    return None


class BodyLimit:
    """Refuses bodies above MAX_BODY before they are read, also where their length is not announced, and those that do
    not arrive within BODY_SECONDS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        detail = f"the body is above the limit of {MAX_BODY} bytes"
        if int(Headers(scope=scope).get("content-length", "0")) > MAX_BODY:
            return await ProblemResponse(413, detail)(scope, receive, send)
        received = 0
        complete = False
        deadline: float | None = None

        async def receive_within_limits() -> Message:
            nonlocal received, complete, deadline
            if complete:  # whoever asks now waits for the client to leave
                return await receive()
            deadline = deadline or asyncio.get_running_loop().time() + BODY_SECONDS
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                late = f"the body did not arrive within {BODY_SECONDS:g} s"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > MAX_BODY:
                raise HTTPException(413, detail)
            return message

        return await self.app(scope, receive_within_limits, send)


class RequestLimit:
    """Answers no more than MAX_REQUESTS at once; probes always."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or route_path(scope) in PROBES:
            return await self.app(scope, receive, send)
        if self._under_way >= MAX_REQUESTS:
            detail = f"{MAX_REQUESTS} requests are under way in this gateway, which is the limit"
            return await ProblemResponse(503, detail, {"Retry-After": str(RETRY_SECONDS)})(scope, receive, send)
        self._under_way += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self._under_way -= 1
