"""The IIIF Image API 3.0, level 2: every seed, and every finished job, as if it were a scanned masterpiece."""

import hashlib
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse
from starlette.responses import RedirectResponse, Response

from service.catalog import DEMO_NAME
from service.gateway import caching
from service.gateway.iiif_sources import Source, find_source
from service.gateway.images import PICTURE_HEADERS
from service.gateway.problems import responses
from service.gateway.proxies import base_address
from service.gateway.services import ServicesOfApp
from service.gateway.slices import SlicedResponse
from service.iiif.info import CONTEXT, PROFILE, information
from service.iiif.request import SUFFIXES, ImageRequest

router = APIRouter(tags=["iiif"])

MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}

Identifier = Annotated[
    str,
    Path(
        max_length=300,
        description="MODEL:SEED[:psi=…][:cutoff=…][:class=…][:size=N], or job:ID",
        examples=[f"{DEMO_NAME}:7"],
    ),
]

_HEADERS = PICTURE_HEADERS | {
    "Link": {
        "description": "the canonical form of the address, and the profile",
        "required": True,
        "schema": {"type": "string"},
    }
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "headers": _HEADERS,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()},
    },
    304: {"description": "The picture that If-None-Match names is still the one", "headers": _HEADERS},
}
_BASE: dict[int | str, dict[str, Any]] = {303: {"description": "To info.json"}}
_INFO: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document",
        "content": {name: {"schema": {"type": "object"}} for name in ("application/ld+json", "application/json")},
    },
    304: {"description": "The document that If-None-Match names is still the one"},
}


@router.head("/iiif/3/{identifier}", include_in_schema=False)
@router.get(
    "/iiif/3/{identifier}",
    summary="Redirects to info.json",
    response_class=Response,
    status_code=303,
    responses=_BASE | responses(401, 422),
)
async def get_base(identifier: Identifier, request: Request) -> Response:
    """An identifier alone is the address of no picture."""
    return RedirectResponse(f"{_address(identifier, request)}/info.json", 303)


@router.head("/iiif/3/{identifier}/info.json", include_in_schema=False)
@router.get(
    "/iiif/3/{identifier}/info.json",
    summary="Describes a picture to viewers",
    response_class=Response,
    responses=_INFO | responses(400, 401, 404, 413, 422, 503),
)
async def get_info(identifier: Identifier, request: Request, services: ServicesOfApp) -> Response:
    """Sizes, tiles and limits, as JSON-LD or, where that alone is accepted, as JSON."""
    source = await find_source(identifier, request, services)
    document = information(_address(identifier, request), source.width, source.height, source.tile, source.limits)
    plain = _prefers_plain_json(request.headers.get("accept", ""))
    tag = f'"{hashlib.sha256(f"{plain}{document}".encode()).hexdigest()}"'
    headers = _headers(source, services, tag) | {"Vary": "Accept", "Link": f'<{PROFILE}>;rel="profile"'}
    if caching.is_current(request, tag):
        return Response(status_code=304, headers=headers)
    media_type = "application/json" if plain else f'application/ld+json;profile="{CONTEXT}"'
    return JSONResponse(document, headers=headers, media_type=media_type)


@router.head("/iiif/3/{identifier}/{region}/{size}/{rotation}/{quality}.{format}", include_in_schema=False)
@router.get(
    "/iiif/3/{identifier}/{region}/{size}/{rotation}/{quality}.{format}",
    summary="A part of a picture at a size",
    response_class=Response,
    responses=_FILE | responses(400, 401, 404, 413, 422, 429, 501, 503, 504),
)
async def get_iiif_image(
    identifier: Identifier,
    region: Annotated[str, Path(max_length=100, description="full, square, x,y,w,h or pct:x,y,w,h", examples=["full"])],
    size: Annotated[
        str, Path(max_length=100, description="max, w, ,h w,h !w,h or pct:n, perhaps after ^", examples=["512,"])
    ],
    rotation: Annotated[str, Path(max_length=100, description="0, 90, 180 or 270, after ! mirrored", examples=["0"])],
    quality: Annotated[str, Path(max_length=100, description="default, color, gray or bitonal", examples=["default"])],
    suffix: Annotated[str, Path(alias="format", max_length=100, description=", ".join(SUFFIXES), examples=["jpg"])],
    request: Request,
    services: ServicesOfApp,
) -> Response:
    """A live picture is drawn at the size that is asked for, also above its own (^): nothing is scaled up. Of a job's
    output, the stored tiles are put together and scaled down."""
    wanted = ImageRequest.parse(region, size, rotation, quality, suffix)
    source = await find_source(identifier, request, services)
    resolved = wanted.resolve(source.width, source.height, source.limits)
    canonical = f"{_address(identifier, request)}/{resolved.canonical}"
    headers = _headers(source, services, source.tag(resolved)) | {
        "Link": f'<{canonical}>;rel="canonical", <{PROFILE}>;rel="profile"',
        "X-Creps-Seed": str(source.seed),
        "X-Creps-Digest": source.digest,
    }
    if caching.is_current(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    media_type = MEDIA_TYPES[resolved.suffix]
    if request.method == "HEAD":
        response = Response(headers=headers, media_type=media_type)
        del response.headers["Content-Length"]  # nobody knows it before the picture is made
        return response
    answer = await source.answer(resolved)
    if answer.timing is not None:
        headers["Server-Timing"] = answer.timing
    return SlicedResponse(answer.content, headers=headers, media_type=media_type)


def _address(identifier: str, request: Request) -> str:
    """The picture's id: its address as the client sees it."""
    return f"{base_address(request)}/iiif/3/{quote(identifier, safe=':=')}"


def _headers(source: Source, services: ServicesOfApp, tag: str) -> dict[str, str]:
    shared = not services.settings.needs_key
    return {"ETag": tag, "Cache-Control": caching.cache_control(by_digest=source.immutable, shared=shared)}


def _prefers_plain_json(accept: str) -> bool:
    """Whether a client names JSON, but not JSON-LD (section 5.1)."""
    return "application/json" in accept and "application/ld+json" not in accept
