"""The explorer page and the API's documentation: files that come with the program."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'none'"
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


@router.head("/docs")
@router.get("/docs")
async def docs() -> Response:
    # FastAPI's own page fetches these from elsewhere: it would be empty where there is no internet.
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="CREPS Serve",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="web/icon.svg",
    )


@router.head("/docs/{path:path}")
@router.get("/docs/{path:path}")
async def docs_file(path: str, request: Request) -> Response:
    return await _file(_swagger, path, request)


async def _file(folder: StaticFiles, path: str, request: Request) -> Response:
    response = await folder.get_response(path, request.scope)
    response.headers["Cache-Control"] = "no-cache"  # asked for again each time, by entity tag: an update shows at once
    return response
