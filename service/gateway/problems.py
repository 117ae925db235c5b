"""Errors as RFC 9457 problem details: which exception becomes which status."""

import http
import json
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from obstore.exceptions import BaseError
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from model.errors import InputError
from service.gateway.errors import (
    BudgetExceededError,
    ClientGoneError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)
from service.iiif.errors import BadSyntaxError, UnknownIdentifierError, UnsupportedError
from service.jobs.board import TooManyJobsError, UnknownJobError, UnsettledKeysError
from service.outputs.store import describe
from service.queue import DeadlinePassed, QueueFull, RenderFailed
from service.validation import explain

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

RETRY_SECONDS = 5
"""Retry-After where nothing tells how long an outage will last."""

JOB_RETRY_SECONDS = 60
"""Retry-After where there are too many jobs, each of which takes minutes."""

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that did not wait. Nobody receives it: it is for logs and metrics."""


class Mistake(BaseModel):
    """One mistake in a request."""

    field: str | None = Field(description="name of the field; null where it is the request as a whole")
    detail: str = Field(description="what is wrong with it, with the limit")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="always about:blank: the status says which kind of problem it is")
    title: str = Field(description="the status in words", examples=["Unprocessable Content"])
    status: int = Field(description="the HTTP status", examples=[422])
    detail: str = Field(description="what is wrong, with the limit", examples=["width: must be at least 1, not 0"])
    field: str | None = Field(None, description="the field at fault", examples=["width"])
    errors: list[Mistake] | None = Field(None, description="every mistake, where values are at fault")
    checks: dict[str, bool] | None = Field(None, description="of /readyz: what is well and what is not")


class ProblemResponse(Response):
    """A problem as answer. ``members`` are further members of :class:`Problem`."""

    media_type = MEDIA_TYPE

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        problem = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail, **members}
        # ASCII with escapes: a message may repeat half of a surrogate pair, which UTF-8 cannot hold.
        super().__init__(json.dumps(problem), status, {"Cache-Control": "no-store", **(headers or {})})


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems of a route, for its OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _title(status), "content": content} for status in statuses}


def _title(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request"


def _unavailable(detail: str, **members: Any) -> ProblemResponse:
    return ProblemResponse(503, detail, {"Retry-After": str(RETRY_SECONDS)}, **members)


def budget_exceeded(error: BudgetExceededError) -> ProblemResponse:
    """429, or 413 where waiting would not help."""
    if error.retry_after is None:
        return ProblemResponse(413, str(error))
    return ProblemResponse(429, str(error), {"Retry-After": str(error.retry_after)})


def _input_error(error: InputError, status: int) -> ProblemResponse:
    mistakes = [{"field": error.field, "detail": error.message}]
    return ProblemResponse(status, str(error), field=error.field, errors=mistakes)


def _validation_error(error: RequestValidationError) -> ProblemResponse:
    findings: Sequence[Any] = error.errors()
    if findings[0]["type"] == "json_invalid":
        return ProblemResponse(400, f"the body is no JSON: {findings[0]['ctx']['error']}")
    mistakes = [{"field": _field(finding["loc"]), "detail": explain(finding)} for finding in findings]
    field, detail = mistakes[0]["field"], mistakes[0]["detail"]
    return ProblemResponse(422, f"{field or 'body'}: {detail}", field=field, errors=mistakes)


def _field(location: Sequence[str | int]) -> str | None:
    """ "region[2]" from ("body", "region", 2); None from ("body",)."""
    return "".join(f"[{part}]" if isinstance(part, int) else part for part in location[1:]) or None


def _http_error(request: Request, error: HTTPException) -> ProblemResponse:
    detail, headers = error.detail, dict(error.headers or {})
    if error.status_code == 404:
        described = request.app.state.services.settings.docs
        detail = "there is nothing at this address" + ("; /docs lists what there is" if described else "")
    elif error.status_code == 405:
        headers["Allow"] = _allowed(request)
        detail = f"this address answers only {headers['Allow']}"
    return ProblemResponse(error.status_code, detail, headers)


def _allowed(request: Request) -> str:
    """The methods of all routes of an address; Starlette tells only the first's."""
    routes = [route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in getattr(route, "methods", None) or ()}))


def _render_failed(error: RenderFailed) -> ProblemResponse:
    match error.kind:
        case "invalid":
            return ProblemResponse(422, str(error), field=error.field)
        case "memory" | "unavailable":
            return _unavailable(str(error))
        case _:
            return ProblemResponse(500, "the worker failed to draw this picture; its log tells why")


async def answer(request: Request, error: Exception) -> Response:
    """The problem that an exception becomes."""
    match error:
        case UnknownModelError() | UnknownJobError() | UnknownIdentifierError():
            return _input_error(error, 404)
        case TooLargeError():
            return _input_error(error, 413)
        case BadSyntaxError():
            return _input_error(error, 400)
        case UnsupportedError():
            return _input_error(error, 501)
        case InputError():
            return _input_error(error, 422)
        case RequestValidationError():
            return _validation_error(error)
        case HTTPException():
            return _http_error(request, error)
        case TooManyJobsError():
            return ProblemResponse(429, str(error), {"Retry-After": str(JOB_RETRY_SECONDS)})
        case BudgetExceededError():
            return budget_exceeded(error)
        case BaseError() | PermissionError():
            logger.error("the object store failed: %s", str(error).partition("\n")[0])
            return _unavailable(describe(error))
        case QueueFull():
            return ProblemResponse(429, "the queue is full", {"Retry-After": str(error.retry_after)})
        case DeadlinePassed():
            return ProblemResponse(504, "the picture was not ready in time; a smaller one may be")
        case RenderFailed():
            return _render_failed(error)
        case UnsettledKeysError():
            return _unavailable(str(error))
        case UnavailableError():
            return _unavailable(str(error), **({"checks": error.checks} if error.checks else {}))
        case RedisError():
            logger.error("the queue does not answer: %s", error)
            return _unavailable("the queue does not answer")
        case ClientGoneError():
            return ProblemResponse(CLIENT_CLOSED_REQUEST, "the client is gone")
        case _:
            raise error


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = dict.fromkeys(
    (
        InputError,
        RequestValidationError,
        HTTPException,
        QueueFull,
        DeadlinePassed,
        RenderFailed,
        UnavailableError,
        TooManyJobsError,
        UnsettledKeysError,
        BudgetExceededError,
        BaseError,
        PermissionError,
        RedisError,
        ClientGoneError,
    ),
    answer,
)
