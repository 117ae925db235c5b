"""Directions in which the images of a model can be edited."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from model.latents.direction import find_direction
from model.latents.latent import MAX_SEED, Edit, pack_floats
from model.spec import FORMATS, Encoding
from service.gateway import http_cache
from service.gateway.errors import UnknownDirectionError, responses
from service.gateway.image_batch import Part, after_first_success, as_sheet, check_batch, render_batch
from service.gateway.latent_schemas import DIRECTION
from service.gateway.latents import names_of
from service.gateway.middleware.proxy_headers import base_address
from service.gateway.plain_route import PlainRoute
from service.gateway.resolve import named_as_given, resolve_request
from service.gateway.responses import BackpressureResponse
from service.gateway.routes.images import IMAGE_HEADERS
from service.gateway.schema_types import MAX_NAME, CommonFormat, QueryInteger
from service.gateway.schemas import ImageQuery, ImageRequest
from service.gateway.state import AppState, CurrentAppState
from service.imaging.contact_sheet import sheet_size
from service.models.catalog import DEMO_NAME

router = APIRouter(tags=["latents"])

AMOUNTS = (-3.0, -1.5, 0.0, 1.5, 3.0)
"""Of the images of a strip, in standard deviations."""


class DirectionInfo(BaseModel):
    """A direction, and what a step of one standard deviation along it changes."""

    name: str = Field(description="for `edits`", examples=["sefa:0"])
    label: str | None = Field(
        description="the name that the operator has given it, for `edits`, too", examples=["smile"]
    )
    layers: list[int] = Field(description="styles that it changes", examples=[[3]])
    effect: float = Field(description="root mean square change of the image, in levels of 255", examples=[21.5])
    ratio: float = Field(
        description="change of the image, relative to that of random directions by a step of equal length",
        examples=[3.2],
    )
    luma: float = Field(description="change of the mean brightness, in levels", examples=[-4.1])
    chroma: float = Field(description="change of the mean colourfulness, in levels", examples=[1.7])
    strip: str = Field(
        description=f"address of a strip of images at the amounts {', '.join(f'{amount:g}' for amount in AMOUNTS)}",
        examples=["http://127.0.0.1:8000/v1/models/demo/directions/sefa:0.png"],
    )


class Directions(BaseModel):
    """The directions of a model."""

    model: str = Field(description="digest of the model", examples=["9f" * 32])
    directions: list[DirectionInfo] = Field(description="the strongest first")


@router.head("/v1/models/{model}/directions", include_in_schema=False)
@router.get(
    "/v1/models/{model}/directions", summary="List the directions of a model", responses=responses(401, 404, 422, 503)
)
async def list_directions(
    model: Annotated[str, Path(max_length=MAX_NAME, description="name or digest", examples=[DEMO_NAME])],
    request: Request,
    app_state: CurrentAppState,
) -> Directions:
    """Directions that need no labels: of SeFa (one style) and PCA (all). A worker looks for them when they are first
    asked for, which takes seconds to minutes; until then the answer is 503 with Retry-After."""
    checkpoint = await app_state.models.resolve(model)
    base = f"{base_address(request)}/v1/models/{checkpoint.name}/directions"
    found = sorted((await app_state.directions.get(checkpoint)).values(), key=lambda direction: -direction.effect)
    listed = [
        DirectionInfo(
            name=each.name,
            label=each.label,
            layers=list(each.layers),
            strip=f"{base}/{each.name}.png",
            **{name: round(getattr(each, name), 3) for name in ("effect", "ratio", "luma", "chroma")},
        )
        for each in found
    ]
    return Directions(model=checkpoint.digest, directions=listed)


class StripAddress(ImageQuery):
    """Path and query of a strip."""

    model: str = Field(max_length=MAX_NAME, description="name or digest of a model", examples=[DEMO_NAME])
    direction: str = Field(pattern=f"^({DIRECTION.pattern})$", description="its name", examples=["sefa:0"])
    format: CommonFormat = Field(description="file format, `jpg` as `jpeg`")
    seed: QueryInteger = Field(0, ge=0, le=MAX_SEED, description="seed of the image that is changed", examples=[2])


async def get_strip(address: StripAddress, request: Request, app_state: AppState) -> Response:
    """Images of a seed along a direction, beside each other, each with the pixels of its own. The query is that of an
    image."""
    with named_as_given(address):
        image = await resolve_request(ImageRequest.model_construct(**dict(address)), app_state)
    known = await app_state.directions.get(image.checkpoint)
    if (found := find_direction(known, address.direction)) is None:
        raise UnknownDirectionError("direction", f"must be one of {names_of(known)}, not {address.direction}")
    latents = [
        replace(image.spec.latent, edits=(Edit(pack_floats(found.vector), amount, found.layers),)) for amount in AMOUNTS
    ]
    specs = [replace(image.spec, latent=latent, encoding=Encoding("png", metadata="none")) for latent in latents]
    parts = [Part("", replace(image, spec=spec), {}) for spec in specs]
    check_batch([part.image for part in parts], app_state, "width")
    encoding = Encoding(address.format, address.quality)
    encoding.check_size(*sheet_size(len(parts), len(parts), *image.spec.viewport.crop[2:]))
    cache_control = http_cache.cache_control(
        by_digest=address.model == image.checkpoint.digest, shared=not app_state.settings.needs_key
    )
    headers = {"X-Creps-Digest": image.checkpoint.digest, "Cache-Control": cache_control}
    if request.method == "HEAD":
        response = Response(headers=headers, media_type=f"image/{encoding.format}")
        del response.headers["Content-Length"]  # unknown before the images are rendered
        return response
    rendered = await after_first_success(render_batch(parts, request, app_state))
    labels = [f"{address.direction} {amount:+g}" for amount in AMOUNTS]
    content = await as_sheet(rendered, labels, len(parts), encoding, app_state)
    return BackpressureResponse(content, headers=headers, media_type=f"image/{encoding.format}")


_STRIP: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The strip",
        "headers": {name: IMAGE_HEADERS[name] for name in ("X-Creps-Digest", "Cache-Control")},
        "content": {f"image/{name}": {"schema": {"type": "string", "format": "binary"}} for name in FORMATS},
    }
}

plain_routes = [
    PlainRoute(
        "/v1/models/{model}/directions/{direction}.{format}",
        get_strip,
        StripAddress,
        tag="latents",
        summary="What a direction changes",
        responses=_STRIP | responses(401, 404, 413, 414, 422, 429, 503, 504),
    )
]
