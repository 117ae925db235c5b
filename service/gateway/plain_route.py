"""Routes that viewers call thousands of times, without FastAPI's layers, which cost more than the whole gateway.

They parse path and query into one pydantic model. OpenAPI describes them from the same model, like all other routes.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, create_model
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from model.errors import InputError
from service.gateway.errors import respond_to
from service.gateway.middleware.request_limits import has_body
from service.gateway.resolve import parse_query
from service.gateway.state import AppState

Parameters = TypeVar("Parameters", bound=BaseModel)


def operation_id(name: str) -> str:
    """The name in OpenAPI of an endpoint: "drawImage" for ``draw_image``. Generated clients name their methods so."""
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


Endpoint = Callable[[Any, Request, AppState], Awaitable[Response]]

MAX_QUERIES = 256
"""Parsed queries that a route keeps. Viewers and programs send the same few with thousands of paths."""


class PlainRoute(Route):
    """A route for GET and HEAD. ``endpoint`` gets its parameters, the request and the state.

    Args:
        parameters: the fields of path and query. If it forbids other fields, other query parameters are refused.
        tag, summary, responses: for OpenAPI.
    """

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        parameters: type[BaseModel],
        *,
        tag: str,
        summary: str,
        responses: Mapping[int | str, dict[str, Any]],
    ) -> None:
        super().__init__(path, self._respond, methods=["GET"], name=endpoint.__name__)
        self._handler = endpoint
        self._parameters = parameters
        self._forbids_others = parameters.model_config.get("extra") == "forbid"
        self._path = _path_of(parameters, self.param_convertors)
        self._queries: dict[bytes, BaseModel] = {}
        self._tag, self._summary, self._responses = tag, summary, responses

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As FastAPI's routes, which name themselves for logs and metrics."""
        match, child_scope = super().matches(scope)
        return match, {**child_scope, "route": self}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that matches this route."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
            await response(scope, receive, send)
        except Exception as error:
            response = await respond_to(error, request)
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        if has_body(request.scope):
            await request.body()  # within the limits of RequestLimitsMiddleware
        return await self._handler(self._parse(request), request, request.app.state.app_state)

    def _parse(self, request: Request) -> BaseModel:
        """The parameters. Of a query that is known, only the path is validated."""
        raw_query: bytes = request.scope["query_string"]
        if (known := self._queries.get(raw_query)) is not None:
            with suppress(ValidationError):  # which is told below, in the order of the fields
                return known.model_copy(update=dict(self._path.model_validate(request.scope["path_params"])))
        parameters = self._validate(request)
        if len(self._queries) >= MAX_QUERIES:
            self._queries.clear()
        self._queries[raw_query] = parameters
        return parameters

    def _validate(self, request: Request) -> BaseModel:
        path: dict[str, Any] = request.scope["path_params"]
        query = parse_query(request)
        if self._forbids_others and (repeated := query.keys() & path.keys()):
            raise InputError(min(repeated), "is part of the path")
        try:
            return self._parameters.model_validate(query | path)
        except ValidationError as error:
            findings = [{**finding, "loc": ("query", *finding["loc"])} for finding in error.errors()]
            raise RequestValidationError(findings) from None

    def describe(self) -> dict[str, Any]:
        """The OpenAPI path item."""
        schema = self._parameters.model_json_schema()
        parameters = [
            {
                "name": name,
                "in": "path" if name in self.param_convertors else "query",
                "required": name in schema.get("required", ()),
                "schema": {key: value for key, value in field.items() if key != "default" or value not in (None, [])},
                "description": field["description"],
                # Prefilled in /docs. An optional parameter is better left out.
                **({"example": field["examples"][0]} if name in self.param_convertors and "examples" in field else {}),
            }
            for name, field in schema["properties"].items()
        ]
        operation = {
            "tags": [self._tag],
            "summary": self._summary,
            "description": inspect.getdoc(self._handler),
            "operationId": operation_id(self.name),
            "parameters": parameters,
            "responses": {str(status): content for status, content in self._responses.items()},
        }
        return {"get": operation}


def _path_of(parameters: type[BaseModel], names: Iterable[str]) -> type[BaseModel]:
    """The part of the parameters that the path has."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in parameters.model_fields.items()}
    return create_model(f"{parameters.__name__}Path", **{name: fields[name] for name in names})


class PlainRoutes:
    """Answers GET and HEAD at the addresses of plain routes, and passes all other requests on to ``app``."""

    def __init__(self, app: ASGIApp, routes: Sequence[PlainRoute]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for route in self.routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                return await route.answer(scope, receive, send)
        return await self.app(scope, receive, send)
