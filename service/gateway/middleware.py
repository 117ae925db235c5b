"""What surrounds every request: its log line and metrics, its key, the size of its body. Plain ASGI."""

import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics
from service.gateway.problems import ProblemResponse
from service.gateway.proxies import route_path
from service.logs import log_context
from service.tracing import request_span

logger = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that metrics tell apart: a client must not be able to fill the memory with invented ones."""

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked for every few seconds for as long as the service runs: logged at debug level."""

DRAWN = "creps.drawn"
"""Key of a request's scope: the picture that it asked for, as fields of its log message."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestLog:
    """One log line and one metrics entry for each request, under an id that is also sent back.

    An exception that nobody expected is logged here, and answered as a problem that tells nothing of the inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        status: int | None = None  # until an answer has begun

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        with log_context(request_id=request_id), _span(scope) as describe:
            try:
                await self.app(scope, receive, send_with_id)
            except Exception:
                logger.exception("an unexpected error")
                if status:
                    raise  # too late for another answer: the server closes the connection
                await ProblemResponse(500, f"an error of the service, logged under {request_id}")(
                    scope, receive, send_with_id
                )
            finally:
                route, status = getattr(scope.get("route"), "path", "unmatched"), status or 500  # 500: cut off
                _record(scope, route, status, time.perf_counter() - started)
                describe(route, status)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _span(scope: Scope) -> AbstractContextManager[Callable[[str, int], None]]:
    if route_path(scope) in PROBES:
        return nullcontext(lambda route, status: None)
    return request_span(_method(scope), scope["path"], Headers(scope=scope))


def _record(scope: Scope, route: str, status: int, seconds: float) -> None:
    method = _method(scope)
    metrics.HTTP_REQUESTS.labels(route=route, method=method, status=status).inc()
    metrics.HTTP_DURATION.labels(route=route).observe(seconds)
    client = scope["client"][0] if scope.get("client") else "-"
    level = logging.DEBUG if route in PROBES else logging.INFO
    path = quote(scope["path"])  # it may hold a line break, which would forge a line of the log
    milliseconds = round(1000 * seconds, 1)
    fields = {"client": client, "method": method, "path": path, "status": status, "milliseconds": milliseconds}
    logger.log(
        level, '%s "%s %s" %d %.1f ms', *fields.values(), extra={**fields, "route": route, **scope.get(DRAWN, {})}
    )


SHOWN_ANYWHERE = "/iiif/"
"""Addresses that the pages of any site may ask: viewers are elsewhere."""

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, *",  # which the asterisk does not mean
    "Access-Control-Max-Age": "86400",
}


def _is_shown_anywhere(scope: Scope) -> bool:
    return scope["type"] == "http" and route_path(scope).startswith(SHOWN_ANYWHERE)


class AnyOrigin:
    """Lets the pages of all sites read the answers under SHOWN_ANYWHERE, all errors among them (CORS)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_shown_anywhere(scope):
            return await self.app(scope, receive, send)

        async def send_to_anyone(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Access-Control-Allow-Origin"] = "*"
                headers["Access-Control-Expose-Headers"] = "*"
            await send(message)

        return await self.app(scope, receive, send_to_anyone)


class Preflights:
    """Lets the pages of all sites ask under SHOWN_ANYWHERE. Browsers ask whether they may, without a key (CORS)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _is_shown_anywhere(scope) and scope["method"] == "OPTIONS":
            return await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send)
        return await self.app(scope, receive, send)


OPEN = PROBES | {"/", "/docs", "/openapi.json"}
OPEN_FOLDERS = ("/web/", "/docs/")


def is_open(path: str) -> bool:
    """Whether an address needs no key: pages, documentation and probes."""
    return path in OPEN or path.startswith(OPEN_FOLDERS)


class ApiKeys:
    """Lets only clients with a key pass, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self.app = app
        self.keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(route_path(scope)):
            return await self.app(scope, receive, send)
        key = _given_key(Headers(scope=scope))
        # All are compared, each in constant time: how long it takes tells nothing of any of them.
        if any([hmac.compare_digest(key, known) for known in self.keys]):  # noqa: C419
            return await self.app(scope, receive, send)
        challenge = 'Bearer realm="creps"' + (', error="invalid_token"' if key else "")
        detail = "this key is not known" if key else "a key is needed, as Authorization: Bearer KEY or X-API-Key: KEY"
        return await ProblemResponse(401, detail, {"WWW-Authenticate": challenge})(scope, receive, send)


def _given_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key.encode("latin-1")


class BodyLimit:
    """Refuses bodies above ``limit`` bytes before they are read, also where their length is not announced."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        detail = f"the body is above the limit of {self.limit} bytes"
        if int(Headers(scope=scope).get("content-length", "0")) > self.limit:
            return await ProblemResponse(413, detail)(scope, receive, send)
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, detail)
            return message

        return await self.app(scope, receive_within_limit, send)
