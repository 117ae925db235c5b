"""The IIIF Image API 3.0, level 2, for every seed and every finished Deep Zoom job."""

import hashlib
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse, Response
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from model.spec import FORMATS
from service.gateway import http_cache
from service.gateway.errors import responses
from service.gateway.iiif_sources import Source, find_source
from service.gateway.middleware.proxy_headers import base_address
from service.gateway.plain_route import PlainRoute
from service.gateway.responses import BackpressureResponse
from service.gateway.routes.images import IMAGE_HEADERS, header, identity_headers
from service.gateway.state import AppState, CurrentAppState
from service.iiif.info import CONTEXT, PROFILE, info_json
from service.iiif.request import SUFFIXES, IIIFRequest, Limits
from service.models.catalog import DEMO_NAME

router = APIRouter(tags=["iiif"])

_IDENTIFIER: Any = Field(
    max_length=300,
    description="MODEL:SEED or MODEL:LATENT[:psi=…][:cutoff=…][:class=…][:size=N], or job:ID",
    examples=[f"{DEMO_NAME}:7"],
)
Identifier = Annotated[str, Path(), _IDENTIFIER]

_LINKED_DATA = f'application/ld+json;profile="{CONTEXT}"'

_HEADERS = IMAGE_HEADERS | {"Link": header("the canonical address, and the profile")}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image",
        "headers": _HEADERS,
        "content": {f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in FORMATS},
    },
    304: {"description": "The image of If-None-Match is still current", "headers": _HEADERS},
}
_BASE: dict[int | str, dict[str, Any]] = {303: {"description": "To info.json"}}
_EXAMPLE = info_json(f"http://127.0.0.1:8000/iiif/3/{DEMO_NAME}:7", 16384, 16384, 512, Limits(4096, 4096, 1 << 24))
_INFO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document",
        "content": {
            name: {"schema": {"type": "object"}, "example": _EXAMPLE}
            for name in ("application/ld+json", "application/json")
        },
    },
    304: {"description": "The document of If-None-Match is still current"},
}


@router.head("/iiif/3/{identifier}", include_in_schema=False)
@router.get(
    "/iiif/3/{identifier}",
    summary="Redirects to info.json",
    response_class=Response,
    status_code=303,
    responses=_BASE | responses(401, 422),
)
async def get_iiif_base(identifier: Identifier, request: Request) -> Response:
    """An identifier alone is not the address of an image."""
    return RedirectResponse(f"{_address(identifier, request)}/info.json", 303)


@router.head("/iiif/3/{identifier}/info.json", include_in_schema=False)
@router.get(
    "/iiif/3/{identifier}/info.json",
    summary="Describe an image to viewers",
    response_class=Response,
    responses=_INFO | responses(400, 401, 404, 412, 413, 422, 503),
)
async def get_iiif_info(identifier: Identifier, request: Request, app_state: CurrentAppState) -> Response:
    """Sizes, tiles and limits, as JSON-LD, or as JSON if only that is accepted."""
    source = await find_source(identifier, request, app_state)
    document = info_json(_address(identifier, request), source.width, source.height, source.tile, source.limits)
    plain = _prefers_plain_json(http_cache.header_value(request, "accept"))
    tag = f'"{hashlib.sha256(f"{plain}{document}".encode()).hexdigest()}"'
    headers = _headers(source, app_state, tag) | {"Vary": "Accept", "Link": f'<{PROFILE}>;rel="profile"'}
    if response := http_cache.check_preconditions(request, headers):
        return response
    return JSONResponse(document, headers=headers, media_type="application/json" if plain else _LINKED_DATA)


class ImageParameters(BaseModel):
    """The path of an image."""

    identifier: str = _IDENTIFIER
    region: str = Field(max_length=100, description="full, square, x,y,w,h or pct:x,y,w,h", examples=["full"])
    size: str = Field(max_length=100, description="max, w, ,h w,h !w,h or pct:n, perhaps after ^", examples=["512,"])
    rotation: str = Field(max_length=100, description="degrees clockwise, to 360, after ! mirrored", examples=["0"])
    quality: str = Field(max_length=100, description="default, color, gray or bitonal", examples=["default"])
    format: str = Field(max_length=100, description=", ".join(SUFFIXES), examples=["jpg"])


async def get_iiif_image(parameters: ImageParameters, request: Request, app_state: AppState) -> Response:
    """Images of seeds are rendered at the requested size, also above their own (^), and never scaled. Images of jobs
    are put together from stored tiles and scaled down."""
    identifier = parameters.identifier
    parsed = IIIFRequest.parse(
        parameters.region, parameters.size, parameters.rotation, parameters.quality, parameters.format
    )
    source = await find_source(identifier, request, app_state)
    resolved = parsed.resolve(source.width, source.height, source.limits)
    canonical = f"{_address(identifier, request)}/{resolved.canonical}"
    headers = _headers(source, app_state, source.expected_tag(resolved)) | {
        "Link": f'<{canonical}>;rel="canonical", <{PROFILE}>;rel="profile"',
    }
    headers |= identity_headers(source.spec)
    media_type = f"image/{resolved.format}"
    if response := http_cache.unrendered_response(request, headers, media_type):
        return response
    answer = await source.answer(resolved)
    headers["ETag"] = answer.tag
    if answer.timing is not None:
        headers["Server-Timing"] = answer.timing
    response = BackpressureResponse(answer.content, headers=headers, media_type=media_type)
    return http_cache.check_preconditions(request, headers) or response


plain_routes = [
    PlainRoute(
        "/iiif/3/{identifier}/{region}/{size}/{rotation}/{quality}.{format}",
        get_iiif_image,
        ImageParameters,
        tag="iiif",
        summary="A part of an image at a size",
        responses=_FILE | responses(400, 401, 404, 412, 413, 414, 422, 429, 501, 503, 504),
    )
]


def _prefers_plain_json(accept: str | None) -> bool:
    """Whether JSON is preferred to JSON-LD, which is the default (IIIF, section 5.1)."""
    given, name = parse_accept_header(accept, MIMEAccept), "application/ld+json"
    named = (quality for value, quality in given if value.lower().startswith(name))  # with any profile
    return given.quality("application/json") > next(named, given.quality(name))


def _address(identifier: str, request: Request) -> str:
    """The image's id: its address as the client sees it."""
    return f"{base_address(request)}/iiif/3/{quote(identifier, safe=':=')}"


def _headers(source: Source, app_state: AppState, tag: str | None) -> dict[str, str]:
    shared = not app_state.settings.needs_key
    headers = {"Cache-Control": http_cache.cache_control(by_digest=source.immutable, shared=shared)}
    return headers if tag is None else headers | {"ETag": tag}
