"""Images of several seeds in one answer."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from model.errors import InputError
from model.spec import FORMATS, Encoding, Format, ImageFormat
from service.gateway import http_cache
from service.gateway.image_batch import (
    Part,
    after_first_success,
    as_multipart,
    as_sheet,
    as_zip,
    check_batch,
    render_batch,
)
from service.gateway.resolve import resolve_request
from service.gateway.responses import BackpressureResponse
from service.gateway.schemas import ImagesRequest
from service.gateway.state import AppState
from service.imaging.contact_sheet import sheet_size
from service.imaging.encode import SUFFIXES

_BINARY = {"schema": {"type": "string", "format": "binary"}}
BATCH_CONTENT: dict[str, Any] = {"application/zip": _BINARY, "multipart/mixed": _BINARY}
"""Media types of answers with several files, the default first."""

_OFFERED = (*BATCH_CONTENT, *(f"image/{name}" for name in FORMATS))


async def draw_seeds(body: ImagesRequest, seeds: Sequence[int], request: Request, app_state: AppState) -> Response:
    """The images of all seeds, as the Accept header says. Raises InputError, and the first error if all fail."""
    for name in ("seed", "latent"):
        if getattr(body, name) is not None:
            raise InputError("seeds", f"cannot be combined with {name}")
    numbers = tuple(dict.fromkeys(seeds))
    media_type = _negotiate(request, body.format)
    first = await resolve_request(body.model_copy(update={"seed": numbers[0]}), app_state)
    check_batch([first] * len(numbers), app_state, "seeds")
    is_sheet = media_type.startswith("image/")
    encoding = Encoding("png", metadata="none") if is_sheet else first.spec.encoding
    parts = [
        Part(
            f"seed{seed:0>4}.{SUFFIXES[encoding.format]}",
            replace(first, spec=replace(first.spec, latent=replace(first.spec.latent, seed=seed), encoding=encoding)),
            {"seed": seed},
        )
        for seed in numbers
    ]
    headers = {"X-Creps-Digest": first.checkpoint.digest, "Cache-Control": http_cache.NO_STORE, "Vary": "Accept"}
    if is_sheet:
        columns = math.ceil(math.sqrt(len(numbers)))
        encoding = Encoding(cast(Format, media_type.partition("/")[2]), body.quality)
        encoding.check_size(*sheet_size(len(numbers), columns, *first.spec.viewport.crop[2:]))
        rendered = await after_first_success(render_batch(parts, request, app_state))
        content = await as_sheet(rendered, [str(seed) for seed in numbers], columns, encoding, app_state)
        return BackpressureResponse(content, headers=headers, media_type=media_type)
    rendered = await after_first_success(render_batch(parts, request, app_state))
    name = f"{first.checkpoint.name}-{len(numbers)}-images.zip"
    if media_type == "application/zip":
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return StreamingResponse(as_zip(rendered), headers=headers, media_type=media_type)
    boundary = uuid4().hex
    return StreamingResponse(
        as_multipart(rendered, boundary), headers=headers, media_type=f"{media_type}; boundary={boundary}"
    )


def _negotiate(request: Request, image_format: ImageFormat) -> str:
    """The media type of the answer: the first one that is accepted; of images, in the requested format if it may be."""
    accepted = parse_accept_header(http_cache.header_value(request, "accept"), MIMEAccept)
    offered = sorted(_OFFERED, key=lambda name: name.startswith("image/") and name != f"image/{image_format}")
    return accepted.best_match(offered) or _OFFERED[0]
