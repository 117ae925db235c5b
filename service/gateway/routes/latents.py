"""Latents: uploads, and the z, w and w+ of a seed."""

import asyncio
import io
import json
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.files import parse_latent
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from service.gateway import http_cache
from service.gateway.disconnect import cancel_on_disconnect
from service.gateway.errors import responses
from service.gateway.latents import resolve_latent
from service.gateway.middleware.auth import key_of
from service.gateway.plain_route import PlainRoute
from service.gateway.resolve import JSON_TYPE, find_model, media_type, named_as_given
from service.gateway.routes.images import identity_headers
from service.gateway.schema_types import MAX_NAME, Class, StrictModel
from service.gateway.schemas import LatentAddress, StoreRequest
from service.gateway.state import AppState, CurrentAppState

upload_router = APIRouter(tags=["latents"])

FILE_TYPES = ("application/octet-stream", "application/x-npy", "application/x-npz", "application/zip")
"""Media types of uploads, besides JSON. Which format a file has is told by its first bytes."""

VECTOR_TYPES = ("application/json", "application/x-npz", "application/x-npy", "application/zip")
"""Media types of answers, the default first; the last is a more common name of npz."""

_NO_VIEW = Viewport.resolve(1, 1)
"""In requests for styles, which have no image."""

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/StoreRequest"}},
            FILE_TYPES[0]: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class UploadQuery(StrictModel):
    """The query of an upload."""

    model: str | None = Field(
        None, min_length=1, max_length=MAX_NAME, description="name or digest; default: the only one, or `demo`"
    )
    class_index: Class | None = Field(None, alias="class", description="class, for a file with z")


class StoredLatent(BaseModel):
    """A latent that was stored."""

    id: str = Field(description="stands wherever a seed stands in an address", examples=[f"lat_{'0' * 32}"])
    model: str = Field(description="digest of its model", examples=["9f" * 32])
    expires: datetime = Field(
        description="when it is removed, unless it is uploaded again: CREPS_JOB_DAYS after the last upload",
        examples=["2026-12-06T12:00:00Z"],
    )


@upload_router.post(
    "/v1/latents",
    status_code=201,
    summary="Store a latent",
    responses=responses(400, 401, 404, 413, 415, 422, 503),
    openapi_extra=_BODY,
)
async def create_latent(
    query: Annotated[UploadQuery, Query()], request: Request, app_state: CurrentAppState
) -> StoredLatent:
    """Store a latent under an id that is a digest of its model and values. The body is JSON as `latent` in POST
    /v1/images, with `styles` and `edits` in it, or a file with `w` or `z`: npy, npz (as StyleGAN2-ADA's
    projected_w.npz) or safetensors."""
    checkpoint = await find_model(query.model, app_state.models)
    announced, body = media_type(request), await request.body()
    if JSON_TYPE.fullmatch(announced):
        try:
            wanted = _parse_json(body).to_request()
            latent = await resolve_latent(wanted, checkpoint, app_state.latents, app_state.directions)
        except InputError as error:
            raise type(error)(error.field.removeprefix("latent."), error.message) from None
    elif announced in FILE_TYPES:
        class_index = None if query.class_index is None else checkpoint.find_class(query.class_index)
        latent = await asyncio.to_thread(parse_latent, body, checkpoint.config, class_index)
    else:
        raise HTTPException(415, f"a body must be application/json, {', '.join(FILE_TYPES)}")
    latent_id, expires = await app_state.latents.put(latent, checkpoint.digest)
    return StoredLatent(id=latent_id, model=checkpoint.digest, expires=expires)


def _parse_json(body: bytes) -> StoreRequest:
    """The StoreRequest in a body. Raises HTTPException and RequestValidationError, as FastAPI does."""
    try:
        return StoreRequest.model_validate(json.loads(body))
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None
    except json.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise HTTPException(400) from error  # which errors.py explains


class LatentValues(BaseModel):
    """A latent as numbers."""

    model: str = Field(description="digest of the model", examples=["9f" * 32])
    z: list[float] | None = Field(description="null if the latent does not come from z", examples=[[0.5]])
    w: list[float] | None = Field(
        description="before truncation; null if it is composed, or if the styles have different ones", examples=[[0.5]]
    )
    w_plus: list[list[float]] = Field(description="after truncation, one row for each style", examples=[[[0.5]]])


async def get_latent(address: LatentAddress, request: Request, app_state: AppState) -> Response:
    """z, w and the truncated w+ of a seed or stored latent. By `Accept` also as npz, with `w` [1, styles, w_dim] as
    StyleGAN2-ADA writes it, or as npy. The w+ as a latent has the pixels of the seed."""
    with named_as_given(address):
        checkpoint = await app_state.models.resolve(address.model)
        latent = await resolve_latent(address.to_request(), checkpoint, app_state.latents, app_state.directions)
    accepted = parse_accept_header(http_cache.header_value(request, "accept"), MIMEAccept)
    chosen = accepted.best_match(VECTOR_TYPES) or VECTOR_TYPES[0]
    shared = not app_state.settings.needs_key
    by_digest = address.model == checkpoint.digest
    headers = identity_headers(RenderSpec(checkpoint.digest, latent, _NO_VIEW)) | {
        "Cache-Control": http_cache.cache_control(by_digest=by_digest, shared=shared),
        "Vary": "Accept",
    }
    if request.method == "HEAD":
        response = Response(headers=headers, media_type=chosen)
        del response.headers["Content-Length"]
        return response
    plain = replace(latent, psi=1.0, cutoff=None)
    untruncated = await _styles(plain, checkpoint, request, app_state)  # [styles, w_dim]
    w_plus = untruncated if latent == plain else await _styles(latent, checkpoint, request, app_state)
    z = None if latent.seed is None and latent.z is None else latent.sample_z(checkpoint.config.z_dim)[0]
    if chosen == VECTOR_TYPES[0]:
        composed = latent.mix or latent.styles or latent.edits
        same = not composed and bool((untruncated == untruncated[0]).all())
        values = {"z": z, "w": untruncated[0] if same else None, "w_plus": w_plus}
        content = {"model": checkpoint.digest} | {name: _numbers(value) for name, value in values.items()}
        return JSONResponse(content, headers=headers)
    file = io.BytesIO()
    if chosen == "application/x-npy":
        np.save(file, w_plus[None])
    else:
        np.savez(file, w=w_plus[None], **({} if z is None else {"z": z[None]}))
    return Response(file.getvalue(), headers=headers, media_type=chosen)


async def _styles(latent: Latent, checkpoint: Checkpoint, request: Request, app_state: AppState) -> NDArray[np.float32]:
    """The styles w+ [styles, w_dim] of a latent, from a worker: they are those of its images."""
    await app_state.workers.require()
    spec, key = RenderSpec(checkpoint.digest, latent, _NO_VIEW), key_of(request)
    priority = key.priority if key else "interactive"
    asking = app_state.client.render(spec, app_state.settings.request_timeout, priority, "styles")
    result = await cancel_on_disconnect(request, asking)
    return np.frombuffer(result.content, "<f4").reshape(-1, checkpoint.config.w_dim)


def _numbers(values: NDArray[np.float32] | None) -> list[Any] | None:
    """As JSON values, with the fewest digits that give the same float32."""
    if values is None:
        return None
    return [_numbers(row) for row in values] if values.ndim > 1 else [float(str(number)) for number in values]


_LATENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The latent",
        "content": {VECTOR_TYPES[0]: {"schema": {"$ref": "#/components/schemas/LatentValues"}}}
        | {name: {"schema": {"type": "string", "format": "binary"}} for name in VECTOR_TYPES[1:]},
    }
}

plain_routes = [
    PlainRoute(
        "/v1/models/{model}/latents/{seed}",
        get_latent,
        LatentAddress,
        tag="latents",
        summary="The vectors of a seed",
        responses=_LATENT | responses(401, 404, 414, 422, 429, 503, 504),
    )
]
