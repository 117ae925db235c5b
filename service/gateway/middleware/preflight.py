"""CORS preflight requests."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.errors import ProblemResponse
from service.gateway.middleware.proxy_headers import route_path
from service.gateway.middleware.response_headers import API, open_to_all_sites

API_METHODS = ("GET", "HEAD", "POST", "DELETE")

REQUEST_HEADERS = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id")
"""What pages of CREPS_CORS_ORIGINS may send, besides the headers that every page may."""

PREFLIGHT_SECONDS = 86_400
"""How long browsers keep the answer to a preflight request."""

OPEN_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, *",  # the asterisk does not include Authorization
    "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
}


class PreflightMiddleware:
    """Answers preflight requests, which come without an API key; see :class:`ResponseHeadersMiddleware`."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self.app = app
        self.api_cors = CORSMiddleware(app, origins, API_METHODS, REQUEST_HEADERS, max_age=PREFLIGHT_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return await (self._answer(scope) or self.app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        if scope["method"] != "OPTIONS":
            return None
        if open_to_all_sites(route_path(scope)):
            return Response(status_code=204, headers=OPEN_HEADERS)
        headers = Headers(scope=scope)
        if not route_path(scope).startswith(API) or not {"origin", "access-control-request-method"} <= set(headers):
            return None
        answer = self.api_cors.preflight_response(headers)
        if answer.status_code < 400:
            return answer
        return ProblemResponse(400, f"pages of this origin may not send such requests: {bytes(answer.body).decode()}")
