"""The explorer page and the API documentation: static files of the program."""

import base64
import hashlib
import re
from html import escape
from importlib.resources import files
from os import PathLike, stat_result
from pathlib import Path
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.datastructures import QueryParams
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.gateway.http_cache import check_preconditions
from service.gateway.middleware.proxy_headers import base_address
from service.gateway.schema_types import MAX_NAME
from service.gateway.state import CurrentAppState
from service.models.catalog import DEMO_NAME

router = APIRouter(include_in_schema=False)
docs_router = APIRouter(include_in_schema=False)

_NO_OTHERS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    f"connect-src 'self'; {_NO_OTHERS}"
)
"""Content-Security-Policy of the explorer page: everything comes from this service, or as a thumbnail or a video from
the browser's own memory."""

PREVIEW = "<!-- preview -->"
"""The place in the page of what other sites show for a link to it."""

WEB = Path(__file__).parents[2] / "web"


class _Files(StaticFiles):
    def file_response(
        self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = FileResponse(full_path, status_code, stat_result=stat_result)
        validators = {name: response.headers[name] for name in ("ETag", "Last-Modified")}
        return check_preconditions(Request(scope), validators) or response


_explorer = _Files(directory=WEB)
_swagger = _Files(directory=str(files("fastapi_swagger") / "resources"))


@router.head("/")
@router.get("/")
async def index(request: Request, app_state: CurrentAppState) -> Response:
    page = (WEB / "index.html").read_text()
    public = not app_state.settings.needs_key
    content = page.replace(PREVIEW, _preview(request.query_params, base_address(request), public=public)).encode()
    headers = {
        "Content-Security-Policy": PAGE_POLICY,
        "Cache-Control": "no-cache",
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    }
    return check_preconditions(request, headers) or HTMLResponse(content, headers=headers)


def _preview(query: QueryParams, base: str, *, public: bool) -> str:
    """Open Graph tags of the image that a link names, as far as its values are well-formed.

    ``public``: whether other sites can fetch the image, without an API key.
    """
    model, seed, psi, class_ = (query.get(name, default) for name, default in _LINK_DEFAULTS.items())
    if not (re.fullmatch(r"\d{1,10}", seed, re.ASCII) and re.fullmatch(r"-?\d(\.\d{1,9})?", psi, re.ASCII)):
        model, seed, psi, class_ = _LINK_DEFAULTS.values()
    tags = {"og:title": f"{model}, seed {seed} – CREPS Explorer", "og:type": "website"}
    changed = any(name in query for name in _CHANGES)  # whose image has another address, or none yet
    if public and len(model) <= MAX_NAME and not changed:
        parameters = {"width": "1200", "height": "630", "psi": psi} | ({"class": class_} if class_ else {})
        tags["og:image"] = f"{base}/v1/images/{quote(model, safe='')}/{seed}.jpeg?{urlencode(parameters)}"
    return "\n    ".join(f'<meta property="{name}" content="{escape(text)}">' for name, text in tags.items())


_CHANGES = ("latent", "mix", "edits", "rotate", "mirror", "lens", "swirl", "bend", "wrap")

_LINK_DEFAULTS = {"model": DEMO_NAME, "seed": "0", "psi": "0.7", "class": ""}
"""As in web/link.js."""


@router.head("/favicon.ico")
@router.get("/favicon.ico")
async def favicon(request: Request) -> Response:
    """Browsers ask for it beside an image or a document that names no icon."""
    return await _file(_explorer, "icon.svg", request)


@router.head("/web/{path:path}")
@router.get("/web/{path:path}")
async def explorer_file(path: str, request: Request) -> Response:
    return await _file(_explorer, path, request)


@docs_router.head("/docs")
@docs_router.get("/docs")
async def docs() -> Response:
    # FastAPI's own page loads these from a CDN, and would stay empty without internet.
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
    """Files of this service and the inline script of the page; Swagger UI sets styles and has data: icons."""
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
    # Ranges are optional. FileResponse would refuse those that must be ignored (RFC 9110, section 14.2).
    request.scope["headers"] = [header for header in request.scope["headers"] if header[0] != b"range"]
    response = await folder.get_response(path, request.scope)
    del response.headers["Accept-Ranges"]
    response.headers["Cache-Control"] = "no-cache"  # revalidated by ETag each time, so that an update shows at once
    return response
