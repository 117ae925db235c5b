"""Limit of requests at once."""

from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.errors import UnavailableError, problem_response
from service.gateway.middleware.access_log import PROBES
from service.gateway.middleware.proxy_headers import route_path

MAX_REQUESTS = 1024
"""Requests at once in one gateway, without probes. The queue refuses images long before; this limits watched jobs,
downloads, and clients that hold connections on purpose."""


class ConcurrencyLimitMiddleware:
    """Answers 503 to requests above MAX_REQUESTS at once, except for probes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if route_path(scope) in PROBES:
            return await self.app(scope, receive, send)
        if self._active >= MAX_REQUESTS:
            error = UnavailableError(f"this gateway has reached its limit of {MAX_REQUESTS} requests at once")
            return await problem_response(error)(scope, receive, send)
        self._active += 1
        try:
            return await self.app(scope, receive, send)
        finally:
            self._active -= 1
