"""The explorer page and the API's documentation: files that come with the program."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)
docs_router = APIRouter(include_in_schema=False)

_NO_OTHERS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

PAGE_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; {_NO_OTHERS}"
)
"""Content-Security-Policy of the explorer page: it loads and asks for nothing but what this service has."""

WEB = Path(__file__).parent.parent / "web"

_explorer = StaticFiles(directory=WEB)
_swagger = StaticFiles(directory=str(files("fastapi_swagger") / "resources"))


@router.head("/")
@router.get("/")
async def index(request: Request) -> Response:
    response = await _file(_explorer, "index.html", request)
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


@router.head("/web/{path:path}")
@router.get("/web/{path:path}")
async def explorer_file(path: str, request: Request) -> Response:
    return await _file(_explorer, path, request)


@docs_router.head("/docs")
@docs_router.get("/docs")
async def docs() -> Response:
    # FastAPI's own page fetches these from elsewhere: it would be empty where there is no internet.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="CREPS Serve",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="web/icon.svg",
    )
    page.headers["Content-Security-Policy"] = _docs_policy(page)
    return page


def _docs_policy(page: HTMLResponse) -> str:
    """Our own files, and the one script that is written in the page; Swagger UI sets styles and shows data: icons."""
    (script,) = re.findall(rb"<script>(.*?)</script>", bytes(page.body), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; "
        f"img-src 'self' data: blob:; connect-src 'self'; {_NO_OTHERS}"
    )


@docs_router.head("/docs/{path:path}")
@docs_router.get("/docs/{path:path}")
async def docs_file(path: str, request: Request) -> Response:
    return await _file(_swagger, path, request)


async def _file(folder: StaticFiles, path: str, request: Request) -> Response:
    response = await folder.get_response(path, request.scope)
    response.headers["Cache-Control"] = "no-cache"  # asked for again each time, by entity tag: an update shows at once
    return response
