"""The HTTP interface as one ASGI application. Runs without torch."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from service.gateway import events, health, iiif, images, jobs, models, outputs, page
from service.gateway.middleware import AnyOrigin, ApiKeys, BodyLimit, Preflights, RequestLog, is_open
from service.gateway.problems import HANDLERS, Problem
from service.gateway.proxies import Proxies
from service.gateway.services import Services

MAX_BODY = 64 * 1024
"""Bytes of a request's body; a long one has a few hundred."""

DESCRIPTION = """\
Pictures of any size from CREPS networks. A request names its picture: asked for again, it is the same.
Errors are RFC 9457 problem details that name the field at fault and its limit."""

ROUTERS = tuple(module.router for module in (images, jobs, events, outputs, iiif, models, health, page))

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""The two ways to give a key, as OpenAPI has them."""


class Gateway(FastAPI):
    """FastAPI, with an OpenAPI description that also has what our middleware and error handlers do."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schema = super().openapi()
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schema["components"]["schemas"] |= problem.pop("$defs") | {"Problem": problem}
            if self.state.services.settings.api_keys:
                schema["components"]["securitySchemes"] = SECURITY_SCHEMES
                for path, operations in schema["paths"].items():
                    for operation in operations.values():
                        operation["security"] = [] if is_open(path) else [{name: []} for name in SECURITY_SCHEMES]
        return super().openapi()


def create_app(services: Services) -> FastAPI:
    """The application. What it works with is the caller's to open and to close."""
    keys = [key.get_secret_value() for key in services.settings.api_keys]
    app = Gateway(
        title="CREPS Serve",
        version=version("creps-serve"),
        description=DESCRIPTION,
        docs_url=None,  # page.py has one that needs no internet
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
        middleware=[
            Middleware(Proxies, trusted=services.settings.trusted_proxies, root_path=services.settings.root_path),
            Middleware(AnyOrigin),
            Middleware(RequestLog),
            Middleware(Preflights),
            *([Middleware(ApiKeys, keys=keys)] if keys else []),
            Middleware(BodyLimit, limit=MAX_BODY),
        ],
    )
    app.state.services = services
    app.state.routes = [route for router in ROUTERS for route in router.routes]
    for router in ROUTERS:
        app.include_router(router)
    return app
