"""What a file of this service tells of how it was made."""

import asyncio
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from service.gateway.errors import responses
from service.gateway.pictures import PICTURE_BODY, PICTURE_TYPES
from service.gateway.resolve import media_type
from service.gateway.state import CurrentAppState
from service.imaging.metadata import read_description

upload_router = APIRouter(tags=["images"])

_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": PICTURE_BODY}}


class Description(BaseModel):
    """The metadata of a file."""

    software: str | None = Field(None, examples=["CREPS Serve"])
    version: str | None = Field(None, description="of the program", examples=["0.1.0"])
    key: str = Field(description="SHA-256 of the spec", examples=["9f" * 32])
    spec: dict[str, Any] | None = Field(
        None,
        description="model digest, latent, viewport and encoding; missing if it was too long for the file",
        examples=[{"model": "9f" * 32, "latent": {"seed": 2}}],
    )
    model_name: str | None = Field(description="of the model, if it is served", examples=["demo"])


@upload_router.post(
    "/v1/inspect",
    summary="Read how a file was made",
    responses=responses(400, 401, 413, 415, 422, 503),
    openapi_extra=_BODY,
)
async def inspect_file(request: Request, app_state: CurrentAppState) -> Description:
    """The metadata in a PNG, JPEG or WebP file of this program: what `creps info` prints."""
    if media_type(request) not in PICTURE_TYPES:
        raise HTTPException(415, f"a file must be {', '.join(PICTURE_TYPES)}")
    async with app_state.uploads:
        found = await asyncio.to_thread(read_description, await request.body())
    spec = found.get("spec") if isinstance(found.get("spec"), dict) else None
    names = {checkpoint.digest: checkpoint.name for checkpoint in await app_state.models.all()}
    model_name = names.get(spec.get("model")) if spec and isinstance(spec.get("model"), str) else None
    texts = {name: str(found[name])[:100] for name in ("software", "version", "key") if name in found}
    return Description(**texts, spec=spec, model_name=model_name)
