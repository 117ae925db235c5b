"""What surrounds every request: its log line and metrics. Plain ASGI."""

import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
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
        waited: float | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status, waited
            if message["type"] == "http.response.start":
                status, waited = message["status"], time.perf_counter() - started
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
                seconds = time.perf_counter() - started
                # A client that takes its answer slowly makes no slow service.
                metrics.HTTP_DURATION.labels(route=route).observe(seconds if waited is None else waited)
                _record(scope, route, status, seconds)
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
    client = scope["client"][0] if scope.get("client") else "-"
    key = scope.get("state", {}).get("api_key")  # access.py has put it there
    who = f"{client} ({key.name})" if key else client
    level = logging.DEBUG if route in PROBES else logging.INFO
    path = quote(scope["path"])  # it may hold a line break, which would forge a line of the log
    milliseconds = round(1000 * seconds, 1)
    fields = {"method": method, "path": path, "status": status, "milliseconds": milliseconds}
    named = {"key": key.name} if key else {}
    extra = {"client": client, **named, **fields, "route": route, **scope.get(DRAWN, {})}
    logger.log(level, '%s "%s %s" %d %.1f ms', who, *fields.values(), extra=extra)
