"""From an image request to a resolved RenderSpec, within the service's limits."""

import json
import re
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request

from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from model.geometry.wrap import Wrap
from model.latents.latent import MAX_SEED, Latent
from model.spec import Encoding, RenderSpec
from model.util.text import printable
from model.viewport import Viewport
from service.gateway.errors import TooLargeError, UnavailableError
from service.gateway.middleware.request_limits import has_body
from service.gateway.model_lookup import ModelLookup
from service.gateway.schemas import ImageAddress, ImageRequest
from service.models.catalog import DEMO_NAME, list_names

MAX_POSITIONS = 32_768
"""Most rows plus columns of one request. A line costs as much as hundreds of pixels, so that an image of 262144×64
would take as long as one of fifty times its area."""

USE_JOBS = " for one request; POST /v1/jobs takes larger images"


@dataclass(frozen=True)
class ResolvedImage:
    """An image without defaults; the model of ``spec`` is the checkpoint's digest."""

    checkpoint: Checkpoint
    seed: int
    spec: RenderSpec


async def resolve_request(request: ImageRequest | ImageAddress, models: ModelLookup, max_pixels: int) -> ResolvedImage:
    """Resolve an image of at most ``max_pixels``, as sent and as rendered before small images are averaged.

    Raises InputError, which names the field as the client did, and its limit, UnknownModelError, and UnavailableError
    if no model is served.
    """
    image = await resolve_image(request, models)
    image.spec.encoding.check_size(*image.spec.viewport.crop[2:])
    check_limits(image.spec.viewport, image.checkpoint.config, max_pixels)
    return image


async def resolve_image(request: ImageRequest | ImageAddress, models: ModelLookup) -> ResolvedImage:
    """Resolve an image of any size. Raises InputError, which names the field as the client did, and
    UnavailableError."""
    try:
        return await _resolve(request.to_request() if isinstance(request, ImageAddress) else request, models)
    except InputError as error:
        raise type(error)(request.name_of(error.field), error.message) from None


async def _resolve(request: ImageRequest, models: ModelLookup) -> ResolvedImage:
    checkpoint = await _find(request.model, models)
    config = checkpoint.config
    seed = secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed
    class_index = checkpoint.find_class(request.class_index)
    latent = Latent(seed=seed, class_index=class_index, psi=request.truncation_psi, cutoff=request.truncation_cutoff)
    latent.check(config)
    width = request.width or request.height or config.resolution
    height = request.height or width
    wrap = None if request.wrap is None else Wrap(request.wrap, request.wrap_mode, request.wrap_blend)
    viewport = Viewport.resolve(
        width, height, request.region, request.crop, request.grid, request.transform, request.outside, wrap
    )
    spec = RenderSpec(checkpoint.digest, latent, viewport, Encoding(request.format, request.quality, request.metadata))
    return ResolvedImage(checkpoint, seed, spec)


async def _find(name: str | None, models: ModelLookup) -> Checkpoint:
    if name is not None:
        return await models.resolve(name)
    by_name = {checkpoint.name: checkpoint for checkpoint in await models.all()}
    if not by_name:
        raise UnavailableError("no model is served yet")
    if len(by_name) == 1:
        return next(iter(by_name.values()))
    if DEMO_NAME not in by_name:
        raise InputError("model", f"is required, one of {list_names(by_name)}")
    return by_name[DEMO_NAME]


def parse_query(request: Request) -> dict[str, str]:
    """The parameters of a query. Raises InputError if one is given twice: which one is meant?"""
    pairs = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        counted = Counter(name for name, _ in pairs)
        raise InputError(next(name for name in counted if counted[name] > 1), "must be given once")
    return query


async def require_json(request: Request) -> None:
    """Raise HTTPException if a body is not announced as JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        request.method == "POST"
        and has_body(request.scope)
        and not re.fullmatch(r"application/([a-z0-9.-]+\+)?json", media_type)
    ):
        given = f", not {printable(media_type)}" if media_type else ""
        detail = f"a body must be JSON, sent as Content-Type: application/json{given}"
        raise HTTPException(415, detail, {"Accept": "application/json"})  # RFC 9110, section 15.5.16


async def refuse_repeated_names(request: Request) -> None:
    """Raise InputError if a query gives a parameter twice, or a JSON body a key: which one is meant?"""
    parse_query(request)
    if request.method == "POST" and (repeated := _repeated_keys(await request.body())):
        raise InputError(printable(repeated[0]), "must be given once")


def _repeated_keys(body: bytes) -> list[str]:
    """Keys that an object of a JSON body has twice. None of a body that is not JSON, which its parser reports."""
    repeated: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):
            repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)

    with suppress(ValueError, RecursionError):
        json.loads(body, object_pairs_hook=look)
    return repeated


def check_work(viewport: Viewport, config: GeneratorConfig, max_pixels: int, advice: str = USE_JOBS) -> None:
    """Raise TooLargeError if an image has, or is averaged from, more than ``max_pixels``."""
    _, _, w, h = viewport.crop
    limit = f"above the limit of {max_pixels}{advice}"
    if viewport.pixels > max_pixels:
        raise TooLargeError("width", f"{w}×{h} is {viewport.pixels} pixels, {limit}")
    m_x, m_y = viewport.supersampling(config.resolution, config.max_scale)
    if (samples := viewport.rendered_pixels(config.resolution, config.max_scale)) > max_pixels:
        if viewport.upright is None:
            raise TooLargeError("transform", f"shows so much that {w}×{h} pixels take about {samples} samples, {limit}")
        rendered = f"{w * m_x}×{h * m_y} pixels, averaged {m_x}×{m_y} to one"
        raise TooLargeError("region", f"is so large that rendering takes {rendered}, {limit}")


def check_limits(viewport: Viewport, config: GeneratorConfig, max_pixels: int) -> None:
    """Raise TooLargeError if an image is above the limits of one request: pixels, or rows plus columns."""
    check_work(viewport, config, max_pixels)
    _, _, w, h = viewport.crop
    m_x, m_y = viewport.supersampling(config.resolution, config.max_scale)
    if (positions := w * m_x + h * m_y) > MAX_POSITIONS:
        limit = f"above the limit of {MAX_POSITIONS}{USE_JOBS}"
        raise TooLargeError("width", f"{w}×{h} takes {positions} rows and columns, {limit}")
