"""The OpenAPI description: FastAPI's, and what plain routes, middleware and error handlers do."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.gateway.errors import Problem, responses
from service.gateway.middleware.auth import is_open
from service.gateway.plain_route import PlainRoute, PlainRoutes, operation_id
from service.gateway.routes.job_events import Progress
from service.gateway.routes.latents import LatentValues
from service.gateway.schemas import StoreRequest
from service.gateway.webhooks import WebhookMessage

DESCRIPTION = """\
Images of any size from CREPS networks. The same request always gives the same image.
Errors are RFC 9457 problem details that name the field at fault and its limit."""

TAGS = [
    {"name": "images", "description": "Images that are rendered while the client waits."},
    {"name": "latents", "description": "Inputs of the networks, as numbers and under ids."},
    {"name": "jobs", "description": "Larger images, rendered tile by tile into files."},
    {"name": "iiif", "description": "The IIIF Image API 3.0, for viewers."},
    {"name": "models", "description": "The networks that can be used."},
    {"name": "operation", "description": "Limits, version, probes and metrics."},
]

LICENSE = {"name": "Apache 2.0", "identifier": "Apache-2.0"}

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""The two ways to send an API key."""

_SCHEMAS = "#/components/schemas/{model}"

_EVENTS = """\
Server-sent events named `progress`. The data of each is a JSON object, described by the schema `{name}`."""

_EVENT = """\
id: 1764460800000-0
event: progress
data: {"state":"running","tiles_done":7,"tiles_total":29,"progress":0.24,"eta_seconds":3.1,"tiles":[[9,0,1]]}

"""

_PROJECTION_EVENT = """\
event: progress
data: {"id":"0123456789abcdef0123456789abcdef","state":"running","steps":200,"steps_done":80}

"""

_STREAMS = (
    ("/v1/jobs/{job_id}/events", "Progress", _EVENT),
    ("/v1/projections/{projection_id}/events", "ProjectionInfo", _PROJECTION_EVENT),
)

_RECEIVED: dict[int | str, dict[str, Any]] = {
    "2XX": {"description": "received"},
    "default": {"description": "not received: the message is sent again later, for up to 18 hours"},
}


class Gateway(FastAPI):
    """FastAPI with a complete OpenAPI description. ``plain_routes`` are described besides FastAPI's own."""

    def __init__(self, plain_routes: Sequence[PlainRoute], **given: Any) -> None:
        super().__init__(
            title="CREPS Serve",
            version=version("creps-serve"),
            description=DESCRIPTION,
            openapi_tags=TAGS,
            license_info=LICENSE,
            generate_unique_id_function=_operation_id,
            routes=[*plain_routes],
            **given,
        )
        self._plain_routes = plain_routes
        self.webhooks.post("job-ended", responses=_RECEIVED)(job_ended)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Without FastAPI's own spans: AccessLogMiddleware records one for each request."""
        await Starlette.__call__(self, scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Our middleware around plain routes and FastAPI's router. FastAPI's own layers for unexpected errors and large
        bodies are left out: AccessLogMiddleware and RequestLimitsMiddleware do their work."""
        app: ASGIApp = AsyncExitStackMiddleware(self.router)  # where FastAPI's routes keep what they must close
        app = PlainRoutes(ExceptionMiddleware(app, self.exception_handlers), self._plain_routes)
        for middleware, args, kwargs in reversed(self.user_middleware):
            app = middleware(app, *args, **kwargs)
        return app

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            schema["servers"] = [{"url": self.state.app_state.settings.root_path or "/"}]
            schema["paths"] |= {route.path_format: route.describe() for route in self._plain_routes}
            for model in (LatentValues, Problem, Progress, StoreRequest):
                described = model.model_json_schema(ref_template=_SCHEMAS)
                schema["components"]["schemas"] |= described.pop("$defs", {}) | {model.__name__: described}
            # FastAPI describes each event by itemSchema, which is of OpenAPI 3.2.
            for path, name, example in _STREAMS:
                events = schema["paths"][path]["get"]["responses"]["200"]
                stream = {"schema": {"type": "string"}, "example": example}
                events |= {"description": _EVENTS.format(name=name), "content": {"text/event-stream": stream}}
            if self.state.app_state.settings.needs_key:
                _describe_keys(schema)
        return super().openapi()


def _describe_keys(schema: dict[str, Any]) -> None:
    schema["components"]["securitySchemes"] = SECURITY_SCHEMES
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if is_open(path) else [{name: []} for name in SECURITY_SCHEMES]
            if not is_open(path):
                operation["responses"].setdefault("429", responses(429)[429])


def _operation_id(route: APIRoute) -> str:
    return operation_id(route.name)


async def job_ended(body: WebhookMessage) -> None:
    """Posted to the `webhook` of a job when it has ended, at least once, signed as standardwebhooks.com specifies."""
