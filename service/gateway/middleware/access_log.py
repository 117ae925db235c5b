"""Log line, metrics and trace span of every request."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.errors import ProblemResponse, UnavailableError, problem_response
from service.gateway.middleware.proxy_headers import route_path
from service.gateway.schema_types import SHORT_NAMES
from service.gateway.schemas import ImageQuery
from service.runtime import gateway_metrics as metrics
from service.runtime.logs import LOG_FIELDS, log_context
from service.runtime.metrics import labelled
from service.runtime.tracing import request_span

logger = logging.getLogger(__name__)

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods with a metric label of their own: clients must not be able to create any number of labels."""

PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""Requested every few seconds: logged at debug level."""

ICONS = frozenset({"/web/icon.svg", "/favicon.ico", "/apple-touch-icon.png", "/apple-touch-icon-precomposed.png"})
"""Requested by browsers on their own: logged at debug level."""

LOGGED_PARAMETERS = frozenset(
    {*ImageQuery.model_fields, *SHORT_NAMES.values(), "state", "limit", "offset", "after", "exclude"}
)
"""Query parameters that are logged. Others may be secrets, such as a key that a client sends in the wrong place."""

MAX_QUERY = 300
"""Characters of a query that are logged."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AccessLogMiddleware:
    """Logs and counts each request under an id, which the response has, too.

    Unexpected exceptions are logged here, and answered by a problem without any details.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        status: int | None = None  # until the response starts
        waited: float | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status, waited
            if message["type"] == "http.response.start":
                status, waited = message["status"], time.perf_counter() - started
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        with log_context(request_id=request_id), _span(scope) as end_span:
            try:
                await self.app(scope, receive, send_with_id)
            except asyncio.CancelledError:
                if status or not scope["app"].state.app_state.stopping.is_set():
                    raise
                # The server ends requests that outlast its DRAIN_TIMEOUT, and would answer 500.
                problem = problem_response(UnavailableError("this gateway is stopping; try again"))
                await problem(scope, receive, send_with_id)
            except Exception:
                logger.exception("unexpected error")
                if status:
                    raise  # too late for another response: the server closes the connection
                problem = ProblemResponse(500, f"internal error, logged under the request id {request_id}")
                await problem(scope, receive, send_with_id)
            finally:
                route, status = _route(scope), status or 500
                seconds = time.perf_counter() - started
                # Until the response starts: a client that reads slowly must not make the service look slow.
                labelled(metrics.HTTP_DURATION, route).observe(seconds if waited is None else waited)
                _record(scope, route, status, seconds)
                end_span(route, status)


def _route(scope: Scope) -> str:
    """The path template of a request, also if it was answered before it reached its route."""
    found = scope.get("route")
    if found is None:
        found = next((route for route in scope["app"].state.routes if route.matches(scope)[0] is not Match.NONE), None)
    return getattr(found, "path", "unmatched")


def _query(scope: Scope) -> str:
    """The query without parameters that may be secrets, quoted: line breaks would forge log lines."""
    parts = scope["query_string"].decode("latin-1").split("&")
    known = "&".join(part for part in parts if part.partition("=")[0] in LOGGED_PARAMETERS)
    return quote(known[:MAX_QUERY], safe="&=%+,:;/")


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _span(scope: Scope) -> AbstractContextManager[Callable[[str, int], None]]:
    if route_path(scope) in PROBES:
        return nullcontext(lambda route, status: None)
    return request_span(_method(scope), scope["path"], Headers(scope=scope))


def _record(scope: Scope, route: str, status: int, seconds: float) -> None:
    method = _method(scope)
    labelled(metrics.HTTP_REQUESTS, route, method, str(status)).inc()
    level = logging.DEBUG if route in PROBES or route_path(scope) in ICONS else logging.INFO
    if not logger.isEnabledFor(level):
        return
    client = scope["client"][0] if scope.get("client") else "-"
    key = scope.get("state", {}).get("api_key")  # set by APIKeyMiddleware
    user = f"{client} ({key.name})" if key else client
    path, query = quote(scope["path"]), _query(scope)
    target = f"{path}?{query}" if query else path
    fields = {"method": method, "path": path, "status": status, "milliseconds": round(1000 * seconds, 1)}
    named = {"key": key.name} if key else {}
    if query:
        named["query"] = query
    extra = {"client": client, **named, **fields, "route": route, **scope.get(LOG_FIELDS, {})}
    reason = f": {extra['problem']}" if "problem" in extra else ""
    message = '%s "%s %s" %d %.1f ms%s'
    logger.log(level, message, user, method, target, status, fields["milliseconds"], reason, extra=extra)
