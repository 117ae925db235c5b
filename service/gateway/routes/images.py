"""Images, rendered while the client waits."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from model.latents.latent import MAX_SEED
from model.spec import RenderSpec
from service.gateway import http_cache
from service.gateway.errors import responses
from service.gateway.plain_route import PlainRoute
from service.gateway.render import render_image, server_timing
from service.gateway.resolve import ResolvedImage, resolve_request
from service.gateway.responses import BackpressureResponse
from service.gateway.schemas import ImageAddress, ImagesRequest
from service.gateway.seeds import BATCH_CONTENT, draw_seeds
from service.gateway.state import AppState, CurrentAppState
from service.imaging.encode import MEDIA_TYPES
from service.queue.messages import RenderResult

router = APIRouter(tags=["images"])


def header(description: str, **schema: Any) -> dict[str, Any]:
    """The OpenAPI description of a response header; a string, unless the JSON schema says otherwise."""
    return {"description": description, "required": True, "schema": {"type": "string"} | schema}


IMAGE_HEADERS = {
    "X-Creps-Seed": header("seed of the image, if it has one", type="integer", minimum=0, maximum=MAX_SEED)
    | {"required": False},
    "X-Creps-Digest": header("digest of the checkpoint", pattern="^[0-9a-f]{64}$"),
    "ETag": header("identifies the image's bytes"),
    "Cache-Control": header("who may cache the image, and for how long"),
}
_TIMING = {"Server-Timing": header("milliseconds in queue, render and encode; whether it was cached")}
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image",
        "headers": IMAGE_HEADERS | _TIMING,
        "content": {
            name: {"schema": {"type": "string", "format": "binary"}}
            for name in sorted(MEDIA_TYPES.values(), key=lambda name: name != "image/jpeg")  # as in the examples
        },
    }
}
_IMAGES: dict[int | str, dict[str, Any]] = {  # several have no ETag and no times
    200: {
        "description": "The image or images",
        "headers": {name: value | {"required": False} for name, value in (IMAGE_HEADERS | _TIMING).items()},
        "content": _IMAGE[200]["content"] | BATCH_CONTENT,
    }
}
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The image of If-None-Match is still current", "headers": IMAGE_HEADERS}
}


@router.post(
    "/v1/images",
    summary="Render an image, or several",
    response_class=Response,
    responses=_IMAGES | responses(400, 401, 404, 413, 415, 422, 429, 503, 504),
)
async def draw_image(body: ImagesRequest, request: Request, app_state: CurrentAppState) -> Response:
    """Render the image that the body describes, with a random seed if it has none. With `seeds` the answer is, by
    `Accept`, a zip with a manifest, multipart/mixed or a contact sheet; an image that fails does not fail others."""
    if body.seeds is not None:
        return await draw_seeds(body, body.seeds, request, app_state)
    image = await resolve_request(body, app_state)
    return _response(image, await render_image(image, request, app_state), _headers(image, http_cache.NO_STORE))


async def get_image(address: ImageAddress, request: Request, app_state: AppState) -> Response:
    """The same images as POST /v1/images, for links and caches. Nothing is rendered for HEAD, or if the client's
    If-None-Match has the image's ETag."""
    image = await resolve_request(address, app_state)
    cache_control = http_cache.cache_control(
        by_digest=address.model == image.checkpoint.digest, shared=not app_state.settings.needs_key
    )
    headers = _headers(image, cache_control)
    arithmetic = app_state.arithmetics.get(image.checkpoint.digest)
    if tag := http_cache.expected_tag(request, http_cache.image_key(image.spec), arithmetic):
        headers["ETag"] = tag
    if response := http_cache.unrendered_response(request, headers, MEDIA_TYPES[address.format]):
        return response
    response = _response(image, await render_image(image, request, app_state), headers)
    return http_cache.check_preconditions(request, response.headers) or response


plain_routes = [
    PlainRoute(
        "/v1/images/{model}/{seed}.{format}",
        get_image,
        ImageAddress,
        tag="images",
        summary="Render an image at an address of its own",
        responses=_IMAGE | _NOT_MODIFIED | responses(401, 404, 412, 413, 414, 422, 429, 503, 504),
    )
]


def _response(image: ResolvedImage, result: RenderResult, headers: dict[str, str]) -> Response:
    _, _, w, h = image.spec.viewport.crop
    image_format = image.spec.encoding.format
    name = f"{image.checkpoint.name}-{image.label}-{w}x{h}.{image_format}"
    headers["ETag"] = http_cache.entity_tag(http_cache.image_key(image.spec), result.arithmetic)
    headers |= {"Content-Disposition": f'inline; filename="{name}"', "Server-Timing": server_timing(result)}
    return BackpressureResponse(result.content, headers=headers, media_type=MEDIA_TYPES[image_format])


def _headers(image: ResolvedImage, cache_control: str) -> dict[str, str]:
    return identity_headers(image.spec) | {"Cache-Control": cache_control}


def identity_headers(spec: RenderSpec) -> dict[str, str]:
    """The headers that tell the network and, if there is one, the seed of an image."""
    headers = {"X-Creps-Digest": spec.model}
    return headers if spec.latent.seed is None else headers | {"X-Creps-Seed": str(spec.latent.seed)}
