"""Headers of every response, errors included: what browsers may do with it, which pages of other sites may read it."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.gateway.middleware.proxy_headers import route_path

RawHeaders = list[tuple[bytes, bytes]]
"""As in ASGI, with names in lower case."""

DEFAULTS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # For everything but our pages. A browser that shows an image alone puts it into a page with an inline style.
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
]
"""Added to responses that do not have these headers."""

EMBEDDABLE = ("/iiif/", "/v1/images/")
"""Images that the pages of any site may show. They cannot read their pixels without CORS."""

_OPEN = re.compile(r"/iiif/|/v1/jobs/[^/]*/output(/|$)")

API = "/v1/"
"""Addresses that the pages of CREPS_CORS_ORIGINS may use."""

_API_HEADERS = (
    b"X-Creps-Seed, X-Creps-Digest, X-Request-Id, ETag, Server-Timing, Location, Retry-After, WWW-Authenticate, "
    b"Content-Range, Content-Disposition"
)
"""What these pages may read, besides the headers that every page may."""


def open_to_all_sites(path: str) -> bool:
    """Whether the pages of all sites may read an address: IIIF, and the files of jobs, for viewers elsewhere."""
    return _OPEN.match(path) is not None


class ResponseHeadersMiddleware:
    """Adds security and CORS headers. While the gateway is draining, each response closes its connection: a proxy may
    send its next request just when it stops."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...], draining: asyncio.Event) -> None:
        self.app = app
        self.origins = frozenset(origins)
        self.draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: RawHeaders = message["headers"]
                names = {name for name, _ in headers}
                wanted = [*DEFAULTS, *self._headers_of(scope)]
                added = [header for header in wanted if header[0] not in names or header[0] == b"vary"]
                message["headers"] = [*headers, *added]
            await send(message)

        return await self.app(scope, receive, send_with_headers)

    def _headers_of(self, scope: Scope) -> RawHeaders:
        path, headers = route_path(scope), RawHeaders()
        readable = open_to_all_sites(path)
        if readable:
            headers += [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", b"*")]
        elif path.startswith(API):
            headers.append((b"vary", b"Origin"))
            if self.origins and (origin := Headers(scope=scope).get("origin")) in self.origins:
                readable = True
                headers.append((b"access-control-allow-origin", origin.encode("latin-1")))
                headers.append((b"access-control-expose-headers", _API_HEADERS))
        policy = b"cross-origin" if readable or path.startswith(EMBEDDABLE) else b"same-origin"
        headers.append((b"cross-origin-resource-policy", policy))
        if self.draining.is_set():
            headers.append((b"connection", b"close"))
        return headers
