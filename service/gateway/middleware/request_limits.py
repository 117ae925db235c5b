"""Limits of a single request: sizes of its address, headers and body, and the time for its body."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.errors import ProblemResponse
from service.gateway.middleware.proxy_headers import route_path

MAX_TARGET = 8 * 1024
"""Bytes of an address, query included: the least that RFC 9110, section 4.1, recommends."""

MAX_HEADERS = 100

MAX_HEADER_BYTES = 16 * 1024
"""Bytes of all names and values; a browser sends about 1,000."""

MAX_BODY = 512 * 1024
"""Bytes of a body. Most have a few hundred; w+ of the paper's 512² network has up to 170,000 as JSON."""

BODY_TIMEOUT = 10.0
"""Seconds for reading a body."""

UPLOADS = ("/v1/projections", "/v1/inspect")
MAX_UPLOAD, UPLOAD_TIMEOUT = 16 * 1024 * 1024, 60.0
"""The same for pictures. Few are received at once (AppState.uploads)."""


def has_body(scope: Scope) -> bool:
    """Whether a request announces a body."""
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


class RequestLimitsMiddleware:
    """Refuses requests that are too large or ambiguous, and bodies that come too slowly.

    A body is refused before it is read if its length is announced, otherwise as soon as it exceeds the limit. A
    response that is sent before the body was read closes the connection, which would else wait for the rest of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        complete = not has_body(scope)
        received = 0
        limit, seconds = (MAX_UPLOAD, UPLOAD_TIMEOUT) if route_path(scope) in UPLOADS else (MAX_BODY, BODY_TIMEOUT)
        deadline: float | None = None

        async def receive_within_limits() -> Message:
            nonlocal received, complete, deadline
            if complete:  # the next message says that the client has disconnected
                return await receive()
            deadline = deadline or asyncio.get_running_loop().time() + seconds
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body was not received within {seconds:g} s") from None
            complete = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"the body is above the limit of {limit} bytes")
            return message

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not complete:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        app = _check_head(scope, limit) or self.app
        if complete:
            return await app(scope, receive, send)
        return await app(scope, receive_within_limits, send_and_close)


def _check_head(scope: Scope, max_body: int) -> ProblemResponse | None:
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
    if target > MAX_TARGET:
        return ProblemResponse(414, f"the address has {target} bytes, above the limit of {MAX_TARGET}")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > MAX_HEADERS:
        return ProblemResponse(431, f"there are {len(headers)} headers, above the limit of {MAX_HEADERS}")
    size = hosts = 0
    for name, value in headers:
        size += len(name) + len(value)
        hosts += name == b"host"
    if size > MAX_HEADER_BYTES:
        return ProblemResponse(431, f"the headers have {size} bytes, above the limit of {MAX_HEADER_BYTES}")
    if hosts > 1 or (not hosts and scope["http_version"] == "1.1"):  # RFC 9112, section 3.2
        return ProblemResponse(400, "there must be one Host header", {"Connection": "close"})
    by_name = dict(headers)
    if {b"content-length", b"transfer-encoding"} <= by_name.keys():
        # RFC 9112, section 6.1: a proxy in front may have used the other one, and have forwarded two requests.
        return ProblemResponse(400, "Content-Length and Transfer-Encoding exclude each other")
    coding = by_name.get(b"content-encoding", b"identity").decode("latin-1").strip()
    if scope["method"] == "POST" and coding.lower() != "identity":
        problem = f"the body has the Content-Encoding {coding!r}; only bodies without one are accepted"
        return ProblemResponse(415, problem, {"Accept-Encoding": "identity"})  # RFC 9110, section 15.5.16
    if int(by_name.get(b"content-length", 0)) > max_body:
        return ProblemResponse(413, f"the body is above the limit of {max_body} bytes")
    return None
