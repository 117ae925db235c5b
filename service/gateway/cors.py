"""Which pages of other sites may read our answers (CORS), and what browsers do with them. Plain ASGI."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.problems import ProblemResponse
from service.gateway.proxies import route_path

SHOWN_ANYWHERE = "/iiif/"
"""Addresses that the pages of any site may ask: viewers are elsewhere."""

PREFLIGHT_SECONDS = 86_400
"""For which browsers need not ask again whether they may ask."""

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, *",  # which the asterisk does not mean
    "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
}

API = "/v1/"
API_METHODS = ("GET", "HEAD", "POST", "DELETE")
API_HEADERS = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id")
"""What the pages of CREPS_CORS_ORIGINS may send beside what every page may …"""

API_ANSWERS = (
    "X-Creps-Seed",
    "X-Creps-Digest",
    "X-Request-Id",
    "ETag",
    "Server-Timing",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
    "Content-Range",
    "Content-Disposition",
)
"""… and read beside what every page may."""


def _is_shown_anywhere(scope: Scope) -> bool:
    return scope["type"] == "http" and route_path(scope).startswith(SHOWN_ANYWHERE)


def _is_api(scope: Scope) -> bool:
    return scope["type"] == "http" and route_path(scope).startswith(API)


def _shared_with(origins: tuple[str, ...], app: ASGIApp) -> CORSMiddleware:
    return CORSMiddleware(app, origins, API_METHODS, API_HEADERS, expose_headers=API_ANSWERS, max_age=PREFLIGHT_SECONDS)


class AnyOrigin:
    """Lets the pages of all sites read the answers under SHOWN_ANYWHERE, all errors among them."""

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


class ApiOrigins:
    """Lets the pages of named sites read the answers under API, all errors among them.

    Args:
        origins: such as ``https://example.org``.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self.shared = _shared_with(origins, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_api(scope):
            return await self.app(scope, receive, send)
        return await self.shared.simple_response(scope, receive, send, request_headers=Headers(scope=scope))


class Preflights:
    """Browsers ask, without a key, whether a page may ask: under SHOWN_ANYWHERE those of all sites may, under API those
    of named ones.

    Args:
        origins: such as ``https://example.org``.
    """

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self.shared = _shared_with(origins, app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return await (self._answer(scope) or self.app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        if scope["type"] != "http" or scope["method"] != "OPTIONS":
            return None
        if _is_shown_anywhere(scope):
            return Response(status_code=204, headers=PREFLIGHT)
        headers = Headers(scope=scope)
        if not _is_api(scope) or not {"origin", "access-control-request-method"} <= set(headers):
            return None
        answer = self.shared.preflight_response(headers)
        if answer.status_code < 400:
            return answer
        return ProblemResponse(400, f"this site's pages may not ask so: {bytes(answer.body).decode()}")
