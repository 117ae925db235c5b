"""The HTTP interface as one ASGI application. Runs without torch."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from service.gateway import events, health, iiif, images, jobs, models, outputs, page
from service.gateway.access import ApiKeys, is_open
from service.gateway.browser_headers import BrowserHeaders
from service.gateway.cors import AnyOrigin, ApiOrigins, Preflights
from service.gateway.keys import KeyRing
from service.gateway.limits import BodyLimit, HeadLimit, RequestLimit
from service.gateway.middleware import RequestLog
from service.gateway.origins import parse_origins
from service.gateway.problems import HANDLERS, Problem, responses
from service.gateway.proxies import Proxies
from service.gateway.services import Services

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
            if self.state.services.settings.needs_key:
                schema["components"]["securitySchemes"] = SECURITY_SCHEMES
                for path, operations in schema["paths"].items():
                    for operation in operations.values():
                        operation["security"] = [] if is_open(path) else [{name: []} for name in SECURITY_SCHEMES]
                        if not is_open(path):
                            operation["responses"].setdefault("429", responses(429)[429])
        return super().openapi()


def create_app(services: Services) -> FastAPI:
    """The application. What it works with is the caller's to open and to close.

    Raises:
        InputError: the file of keys cannot be used.
    """
    settings = services.settings
    origins = parse_origins(settings.cors_origins)
    keys = KeyRing([key.get_secret_value() for key in settings.api_keys], settings.api_keys_file)
    app = Gateway(
        title="CREPS Serve",
        version=version("creps-serve"),
        description=DESCRIPTION,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,  # page.py has one that needs no internet
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
        middleware=[
            Middleware(Proxies, trusted=settings.trusted_proxies, root_path=settings.root_path),
            Middleware(BrowserHeaders),
            Middleware(AnyOrigin),
            Middleware(ApiOrigins, origins=origins),
            Middleware(RequestLog),
            Middleware(HeadLimit),
            Middleware(RequestLimit),
            Middleware(Preflights, origins=origins),
            *([Middleware(ApiKeys, keys, services.budgets, services.client)] if settings.needs_key else []),
            Middleware(BodyLimit),
        ],
    )
    app.state.services = services
    routers = [
        *ROUTERS,
        *([health.metrics_router] if settings.metrics else []),
        *([page.docs_router] if settings.docs else []),
    ]
    app.state.routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)
    return app
