"""Authentication by API key."""

from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.api_keys import APIKey, APIKeyStore
from service.gateway.errors import ProblemResponse, RateLimitExceededError, problem_response
from service.gateway.middleware.access_log import PROBES
from service.gateway.middleware.proxy_headers import route_path
from service.gateway.rate_limits import RateLimits

OPEN = PROBES | {"/", "/docs", "/favicon.ico", "/openapi.json", "/version"}
OPEN_FOLDERS = ("/web/", "/docs/")


def is_open(path: str) -> bool:
    """Whether an address needs no key: pages, documentation and probes."""
    return path in OPEN or path.startswith(OPEN_FOLDERS)


def key_of(request: Request) -> APIKey | None:
    """The API key of a request; None if the service needs none."""
    key: APIKey | None = request.scope.get("state", {}).get("api_key")
    return key


def owner_of(request: Request) -> str | None:
    """The owner of the jobs that a request orders; None if the service needs no key."""
    key = key_of(request)
    return None if key is None else key.owner or key.name


class APIKeyMiddleware:
    """Requires an API key, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, and charges its request budget.

    While Redis is away, requests are not counted: those that cost anything fail without Redis anyway.
    """

    def __init__(self, app: ASGIApp, keys: APIKeyStore, rate_limits: RateLimits) -> None:
        self.app = app
        self.keys = keys
        self.rate_limits = rate_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_open(route_path(scope)):
            return await self.app(scope, receive, send)
        given = _given_key(Headers(scope=scope))
        key = self.keys.find(given)
        if key is None or key.has_expired:
            return await _unauthorized(given, key)(scope, receive, send)
        scope.setdefault("state", {})["api_key"] = key
        try:
            await self.rate_limits.charge_request(key)
        except RateLimitExceededError as error:
            return await problem_response(error)(scope, receive, send)
        except RedisError:
            pass
        return await self.app(scope, receive, send)


def _unauthorized(given: bytes, key: APIKey | None) -> ProblemResponse:
    if key is not None:
        detail = "this key has expired"
    elif given:
        detail = "this key is unknown"
    else:
        detail = "a key is required, as Authorization: Bearer KEY or X-API-Key: KEY"
    challenge = 'Bearer realm="creps"' + (', error="invalid_token"' if given else "")
    return ProblemResponse(401, detail, {"WWW-Authenticate": challenge})


def _given_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key.encode("latin-1")
