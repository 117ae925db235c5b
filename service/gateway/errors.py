"""The gateway's errors, and every exception's HTTP status and RFC 9457 problem details."""

import http
import json
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from obstore.exceptions import BaseError
from pydantic import BaseModel, Field
from redis.exceptions import BusyLoadingError, OutOfMemoryError, ReadOnlyError, RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from model.errors import InputError
from service.iiif.request import BadSyntaxError, UnknownIdentifierError, UnsupportedError
from service.imaging.object_store import describe
from service.jobs.repository import TooManyJobsError, UnknownJobError, UnsettledKeysError
from service.models.latent_store import UnknownLatentError
from service.queue.messages import DeadlinePassed, QueueFull, RenderFailed
from service.runtime.logs import LOG_FIELDS
from service.runtime.validation import explain

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 5
"""Retry-After of 503, unless the error says more."""

JOB_RETRY_SECONDS = 60
"""Retry-After if there are too many jobs: each takes minutes."""


class UnknownModelError(InputError):
    """The model in the address is not served."""


class UnknownDirectionError(InputError):
    """The model has no direction of this name."""


class TooLargeError(InputError):
    """The image is above a limit of one request."""


class UnavailableError(Exception):
    """The service cannot render at present. ``checks`` are those of /readyz with their results."""

    def __init__(self, detail: str, checks: dict[str, bool] | None = None) -> None:
        super().__init__(detail)
        self.checks = checks


class RateLimitExceededError(Exception):
    """An API key has used up a budget. A retry can succeed after ``retry_after`` seconds (≥ 1; None: never)."""

    def __init__(self, detail: str, retry_after: int | None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class AboveRateLimitError(RateLimitExceededError):
    """One request takes more than the budget of a whole minute."""


class ClientDisconnectedError(Exception):
    """The client closed its connection before the response was ready."""


STATUSES: dict[type[Exception], int] = {
    BadSyntaxError: 400,
    UnknownModelError: 404,
    UnknownLatentError: 404,
    UnknownDirectionError: 404,
    UnknownJobError: 404,
    UnknownIdentifierError: 404,
    TooLargeError: 413,
    AboveRateLimitError: 413,
    InputError: 422,
    QueueFull: 429,
    RateLimitExceededError: 429,
    TooManyJobsError: 429,
    ClientDisconnectedError: 499,
    RenderFailed: 500,
    UnsupportedError: 501,
    UnavailableError: 503,
    UnsettledKeysError: 503,
    BaseError: 503,
    PermissionError: 503,
    RedisError: 503,
    DeadlinePassed: 504,
}
"""The status of each exception and its subclasses. 499, nginx's "client closed request", only reaches the logs."""

RENDER_FAILED_STATUSES = {"invalid": 422, "memory": 503, "unavailable": 503, "failed": 500}
"""The status of each kind of :class:`RenderFailed`."""


REDIS_PROBLEMS: dict[type[RedisError], str] = {
    OutOfMemoryError: "the queue's Redis is out of memory",
    ReadOnlyError: "the queue's Redis is read-only, such as a replica",
    BusyLoadingError: "the queue's Redis is still loading its data",
    RedisError: "the queue does not answer",
}


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    field: str | None = Field(description="name of the field; null for the request as a whole")
    detail: str = Field(description="what is wrong with it, with the limit")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="always about:blank: the status says which kind of problem it is")
    title: str = Field(description="the status in words", examples=["Unprocessable Content"])
    status: int = Field(description="the HTTP status", examples=[422])
    detail: str = Field(description="what is wrong, with the limit", examples=["width: must be at least 1, not 0"])
    field: str | None = Field(None, description="the field at fault", examples=["width"])
    errors: list[FieldError] | None = Field(None, description="every field at fault")
    checks: dict[str, bool] | None = Field(None, description="of /readyz: each check and whether it passed")


class ProblemResponse(Response):
    """Problem details as a response. ``members`` are optional fields of :class:`Problem`."""

    media_type = MEDIA_TYPE

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        problem = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail, **members}
        # ASCII with escapes: a message may contain a lone surrogate, which UTF-8 cannot encode.
        super().__init__(json.dumps(problem), status, {"Cache-Control": "no-store", **(headers or {})})
        # Clients choose parts of a message: line breaks would forge log lines.
        self._logged = "".join(character if character.isprintable() else "?" for character in detail)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault(LOG_FIELDS, {})["problem"] = self._logged
        await super().__call__(scope, receive, send)


RETRY_AFTER = {"description": "seconds until a retry can succeed", "schema": {"type": "integer", "minimum": 1}}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        described[status] = {"description": _title(status), "content": content}
        if status in (429, 503):
            described[status]["headers"] = {"Retry-After": RETRY_AFTER}
    return described


def _title(status: int) -> str:
    return "Client Closed Request" if status == 499 else http.HTTPStatus(status).phrase


def problem_response(error: Exception) -> ProblemResponse:
    """The response to an exception of ``STATUSES``."""
    status = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    detail, retry_after, members = str(error), getattr(error, "retry_after", None), dict[str, Any]()
    match error:
        case InputError():
            members = {"field": error.field, "errors": [{"field": error.field, "detail": error.message}]}
        case RenderFailed():
            status = RENDER_FAILED_STATUSES[error.kind]
            if error.kind == "invalid":
                members = {"field": error.field}
            elif error.kind == "failed":
                detail = "the worker failed to render this image; see its log"
        case UnavailableError(checks=dict()):
            members = {"checks": error.checks}
        case TooManyJobsError():
            retry_after = JOB_RETRY_SECONDS
        case DeadlinePassed():
            detail = "the image was not ready in time; try a smaller one"
        case RedisError():
            logger.error("Redis does not answer: %s", error)
            detail = next(text for kind, text in REDIS_PROBLEMS.items() if isinstance(error, kind))
        case BaseError() | PermissionError():
            logger.error("the object store failed: %s", detail.partition("\n")[0])
            detail = describe(error)
    if status == 503:
        retry_after = RETRY_SECONDS
    return ProblemResponse(status, detail, {"Retry-After": str(retry_after)} if retry_after else None, **members)


async def _handle(_: Request, error: Exception) -> Response:
    return problem_response(error)


async def _handle_validation_error(_: Request, error: RequestValidationError) -> Response:
    findings: Sequence[Any] = error.errors()
    if findings[0]["type"] == "json_invalid":
        return ProblemResponse(400, f"the body is not JSON: {findings[0]['ctx']['error']}")
    errors = [{"field": _field(finding["loc"]), "detail": explain(finding)} for finding in findings]
    field, detail = errors[0]["field"], errors[0]["detail"]
    return ProblemResponse(422, f"{field or 'body'}: {detail}", field=field, errors=errors)


def _field(location: Sequence[str | int]) -> str | None:
    """ "region[2]" for ("body", "region", 2), "labels.a" for ("body", "labels", "a"), None for ("body",)."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[1:])
    return "".join(parts).removeprefix(".") or None


async def _handle_http_error(request: Request, error: HTTPException) -> Response:
    detail, headers = error.detail, dict(error.headers or {})
    if error.status_code == 400 and (reason := _json_error(error.__cause__)):
        detail = f"the body is not JSON: {reason}"
    elif error.status_code == 404:
        has_docs = request.app.state.app_state.settings.docs
        detail = "nothing is at this address" + ("; see /docs" if has_docs else "")
    elif error.status_code == 405:
        headers["Allow"] = _allowed_methods(request)
        detail = f"this address only accepts {headers['Allow']}"
    return ProblemResponse(error.status_code, detail, headers)


def _json_error(cause: BaseException | None) -> str | None:
    """Why Python cannot read a body, unless its JSON has wrong syntax."""
    match cause:
        case UnicodeDecodeError():
            return f"it must be UTF-8, which byte {cause.start + 1} is not"
        case RecursionError():
            return "it is nested too deeply"
        case ValueError():
            return f"a number must have at most {sys.get_int_max_str_digits()} digits"
    return None


def _allowed_methods(request: Request) -> str:
    """The methods of all routes of an address; Starlette names only those of the first."""
    routes = [route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in getattr(route, "methods", None) or ()}))


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    **dict.fromkeys(STATUSES, _handle),
    RequestValidationError: _handle_validation_error,
    HTTPException: _handle_http_error,
}


async def respond_to(error: Exception, request: Request) -> Response:
    """The response to an exception, as from FastAPI's routes. Raises the exception if none is meant for it."""
    handler = next((HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS), None)
    if handler is None:
        raise error
    return await handler(request, error)
