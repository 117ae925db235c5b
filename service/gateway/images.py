"""Pictures, drawn while the client waits."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from model.spec import FORMATS, MAX_SEED, Format
from service.catalog import DEMO_NAME
from service.gateway import caching
from service.gateway.drawing import draw, server_timing
from service.gateway.pictures import Picture, resolve_address, resolve_request
from service.gateway.problems import responses
from service.gateway.requests import MAX_NAME, ImageQuery, ImageRequest
from service.gateway.services import ServicesOfApp
from service.gateway.slices import SlicedResponse
from service.queue import RenderResult

router = APIRouter(tags=["images"])


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "required": True, "schema": schema}


PICTURE_HEADERS = {
    "X-Creps-Seed": _header("seed of the picture", {"type": "integer", "minimum": 0, "maximum": MAX_SEED}),
    "X-Creps-Digest": _header("digest of the checkpoint", {"type": "string", "pattern": "^[0-9a-f]{64}$"}),
    "ETag": _header("names the picture's bytes", {"type": "string"}),
    "Cache-Control": _header("who may keep the picture, and for how long", {"type": "string"}),
}
_TIMING = {
    "Server-Timing": _header("milliseconds in queue, render and encode; whether it was cached", {"type": "string"})
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "headers": PICTURE_HEADERS | _TIMING,
        "content": {f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in FORMATS},
    }
}
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The picture that If-None-Match names is still the one", "headers": PICTURE_HEADERS}
}


@router.post(
    "/v1/images",
    summary="Draw a picture",
    response_class=Response,
    responses=_PICTURE | responses(400, 401, 413, 422, 429, 503, 504),
)
async def post_image(body: ImageRequest, request: Request, services: ServicesOfApp) -> Response:
    """Draws the picture that the body describes, with a random seed if it names none."""
    picture = await resolve_request(body, services.models, services.settings.max_image_pixels)
    result = await draw(picture.spec, request, services)
    return _image(picture, result, caching.NO_STORE)


@router.head("/v1/images/{model}/{seed}.{format}", include_in_schema=False)
@router.get(
    "/v1/images/{model}/{seed}.{format}",
    summary="Draw a picture at an address of its own",
    response_class=Response,
    responses=_PICTURE | _NOT_MODIFIED | responses(401, 404, 413, 422, 429, 503, 504),
)
async def get_image(
    model: Annotated[
        str,
        Path(
            description="name or digest of a model; by digest a picture may be cached for ever",
            max_length=MAX_NAME,
            examples=[DEMO_NAME],
        ),
    ],
    seed: Annotated[int, Path(ge=0, le=MAX_SEED, description="which picture", examples=[2])],
    picture_format: Annotated[Format, Path(alias="format", description="file format")],
    query: Annotated[ImageQuery, Query()],
    request: Request,
    services: ServicesOfApp,
) -> Response:
    """The same pictures as POST /v1/images, for links and caches. Nothing is drawn for HEAD, nor where the client's
    If-None-Match names the picture."""
    wanted = query.to_request(model, seed, picture_format)
    picture = await resolve_address(wanted, services.models, services.settings.max_image_pixels)
    cache_control = caching.cache_control(
        by_digest=model == picture.checkpoint.digest, shared=not services.settings.needs_key
    )
    if caching.is_current(request, caching.entity_tag(picture.spec)):
        return Response(status_code=304, headers=_picture_headers(picture, cache_control))
    if request.method == "HEAD":
        response = Response(headers=_picture_headers(picture, cache_control), media_type=f"image/{picture_format}")
        del response.headers["Content-Length"]  # nobody knows it before the picture is drawn
        return response
    return _image(picture, await draw(picture.spec, request, services), cache_control)


def _image(picture: Picture, result: RenderResult, cache_control: str) -> Response:
    spec = picture.spec
    _, _, w, h = spec.viewport.crop
    name = f"{picture.checkpoint.name}-{picture.seed}-{w}x{h}.{spec.encoding.format}"
    headers = {
        "Content-Disposition": f'inline; filename="{name}"',
        "Server-Timing": server_timing(result),
    }
    return SlicedResponse(
        result.content,
        headers=_picture_headers(picture, cache_control) | headers,
        media_type=f"image/{spec.encoding.format}",
    )


def _picture_headers(picture: Picture, cache_control: str) -> dict[str, str]:
    return {
        "X-Creps-Seed": str(picture.seed),
        "X-Creps-Digest": picture.checkpoint.digest,
        "ETag": caching.entity_tag(picture.spec),
        "Cache-Control": cache_control,
    }
