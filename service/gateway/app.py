"""The gateway as an ASGI application: its middleware and routes."""

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware

from service.gateway.api_keys import APIKeyStore
from service.gateway.errors import HANDLERS
from service.gateway.middleware.access_log import AccessLogMiddleware
from service.gateway.middleware.auth import APIKeyMiddleware
from service.gateway.middleware.concurrency_limit import ConcurrencyLimitMiddleware
from service.gateway.middleware.preflight import PreflightMiddleware
from service.gateway.middleware.proxy_headers import ProxyHeadersMiddleware
from service.gateway.middleware.request_limits import RequestLimitsMiddleware
from service.gateway.middleware.response_headers import ResponseHeadersMiddleware
from service.gateway.openapi import Gateway
from service.gateway.resolve import refuse_repeated_names, require_json
from service.gateway.routes import (
    directions,
    health,
    iiif,
    images,
    inspect,
    job_events,
    job_files,
    jobs,
    latents,
    limits,
    models,
    pages,
    projections,
    sheets,
)
from service.gateway.state import AppState
from service.runtime.addresses import parse_origins

PLAIN_ROUTES = (
    *images.plain_routes,
    *iiif.plain_routes,
    *job_files.plain_routes,
    *latents.plain_routes,
    *directions.plain_routes,
)

ROUTERS = tuple(
    module.router
    for module in (
        images,
        sheets,
        directions,
        projections,
        jobs,
        job_events,
        job_files,
        iiif,
        models,
        limits,
        health,
        pages,
    )
)


UPLOAD_ROUTERS = (latents.upload_router, projections.upload_router, inspect.upload_router)
"""Routes whose bodies may be files. They check media types themselves."""


def create_app(app_state: AppState) -> FastAPI:
    """Create the application. The caller opens and closes what ``app_state`` holds. Raises InputError if the file of
    API keys is invalid."""
    settings = app_state.settings
    origins = parse_origins(settings.cors_origins)
    middleware = [  # for HTTP alone: the server has no lifespan events and no WebSockets
        Middleware(ProxyHeadersMiddleware, trusted=settings.trusted_proxies, root_path=settings.root_path),
        Middleware(ResponseHeadersMiddleware, origins, app_state.draining),
        Middleware(AccessLogMiddleware),
        Middleware(RequestLimitsMiddleware),
        Middleware(ConcurrencyLimitMiddleware),
        Middleware(PreflightMiddleware, origins),
    ]
    if settings.needs_key:
        keys = APIKeyStore([key.get_secret_value() for key in settings.api_keys], settings.api_keys_file)
        middleware.append(Middleware(APIKeyMiddleware, keys, app_state.rate_limits))
    app = Gateway(
        PLAIN_ROUTES,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,  # routes/pages.py has one that loads nothing from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
        middleware=middleware,
    )
    app.state.app_state = app_state
    routers = [*ROUTERS]
    if settings.metrics:
        routers.append(health.metrics_router)
    if settings.docs:
        routers.append(pages.docs_router)
    app.state.routes = [*PLAIN_ROUTES, *(route for router in (*routers, *UPLOAD_ROUTERS) for route in router.routes)]
    for router in routers:
        app.include_router(router, dependencies=[Depends(require_json), Depends(refuse_repeated_names)])
    for router in UPLOAD_ROUTERS:
        app.include_router(router, dependencies=[Depends(refuse_repeated_names)])
    return app
