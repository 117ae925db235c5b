"""Which clients may ask for anything. Plain ASGI."""

from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.budgets import Budgets
from service.gateway.errors import BudgetExceededError
from service.gateway.keys import Key, KeyRing
from service.gateway.middleware import PROBES
from service.gateway.problems import ProblemResponse, budget_exceeded
from service.gateway.proxies import route_path
from service.render_client import RenderClient

OPEN = PROBES | {"/", "/docs", "/openapi.json"}
OPEN_FOLDERS = ("/web/", "/docs/")


def is_open(path: str) -> bool:
    """Whether an address needs no key: pages, documentation and probes."""
    return path in OPEN or path.startswith(OPEN_FOLDERS)


def key_of(request: Request) -> Key | None:
    """The key that a request came with; None where none is needed."""
    key: Key | None = getattr(request.state, "api_key", None)
    return key


class ApiKeys:
    """Lets only clients with a key pass, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, within its budget.

    While Redis is away nothing is counted, and they pass: what costs anything fails without it anyway.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, budgets: Budgets, client: RenderClient) -> None:
        self.app = app
        self.keys = keys
        self.budgets = budgets
        self.client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(route_path(scope)):
            return await self.app(scope, receive, send)
        given = _given_key(Headers(scope=scope))
        key = self.keys.find(given)
        if key is None or key.has_expired:
            return await _refusal(given, key)(scope, receive, send)
        scope.setdefault("state", {})["api_key"] = key
        try:
            self.client.require()  # the budgets are in the same Redis
            await self.budgets.charge_request(key)
        except BudgetExceededError as error:
            return await budget_exceeded(error)(scope, receive, send)
        except RedisError:
            pass
        return await self.app(scope, receive, send)


def _refusal(given: bytes, key: Key | None) -> ProblemResponse:
    if key is not None:
        detail = "this key has expired"
    elif given:
        detail = "this key is not known"
    else:
        detail = "a key is needed, as Authorization: Bearer KEY or X-API-Key: KEY"
    challenge = 'Bearer realm="creps"' + (', error="invalid_token"' if given else "")
    return ProblemResponse(401, detail, {"WWW-Authenticate": challenge})


def _given_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key.encode("latin-1")
