"""From an image request to a resolved RenderSpec, within the service's limits."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request

from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from model.geometry.wrap import Wrap
from model.spec import Encoding, RenderSpec
from model.util.text import printable
from model.viewport import Viewport
from service.gateway.errors import TooLargeError, UnavailableError
from service.gateway.latents import resolve_latent
from service.gateway.middleware.request_limits import has_body
from service.gateway.model_lookup import ModelLookup
from service.gateway.schema_types import StrictModel
from service.gateway.schemas import ImageRequest, LatentAddress
from service.gateway.state import AppState
from service.models.catalog import DEMO_NAME, list_names

MAX_POSITIONS = 32_768
"""Most rows plus columns of one request. A line costs as much as hundreds of pixels, so that an image of 262144×64
would take as long as one of fifty times its area."""

USE_JOBS = " for one request; POST /v1/jobs takes larger images"


@dataclass(frozen=True)
class ResolvedImage:
    """An image without defaults; the model of ``spec`` is the checkpoint's digest."""

    checkpoint: Checkpoint
    spec: RenderSpec

    @property
    def label(self) -> str:
        """Names files: the seed or, of an image of another latent, with styles or edits, a part of the spec's key."""
        return str(self.spec.latent.seed) if self.spec.latent.is_seed else self.spec.key[:12]


async def resolve_request(request: ImageRequest | LatentAddress, app_state: AppState) -> ResolvedImage:
    """Resolve an image within the limit of pixels, as sent and as rendered before small images are averaged. With 16
    bits a pixel counts as two, with 32 as four.

    Raises InputError, which names the field as the client did, and its limit, UnknownModelError, and UnavailableError
    if no model is served.
    """
    image = await resolve_image(request, app_state)
    image.spec.encoding.check_size(*image.spec.viewport.crop[2:])
    # A deep image takes more memory on its way.
    most = app_state.settings.max_image_pixels // (-(-image.spec.encoding.bits // 8))
    check_limits(image.spec.viewport, image.checkpoint.config, most)
    return image


async def resolve_image(request: ImageRequest | LatentAddress, app_state: AppState) -> ResolvedImage:
    """Resolve an image of any size. Raises InputError, which names the field as the client did, and
    UnavailableError."""
    with named_as_given(request):
        return await _resolve(request.to_request() if isinstance(request, LatentAddress) else request, app_state)


@contextmanager
def named_as_given(request: StrictModel) -> Iterator[None]:
    """Names fields in errors as the client of a request has named them."""
    try:
        yield
    except InputError as error:
        raise type(error)(request.name_of(error.field), error.message) from None


async def _resolve(request: ImageRequest, app_state: AppState) -> ResolvedImage:
    checkpoint = await find_model(request.model, app_state.models)
    latent = await resolve_latent(request, checkpoint, app_state.latents, app_state.directions)
    width = request.width or request.height or checkpoint.config.resolution
    height = request.height or width
    wrap = None if request.wrap is None else Wrap(request.wrap, request.wrap_mode, request.wrap_blend)
    viewport = _resolve_viewport(
        width, height, request.region, request.crop, request.grid, request.transform, request.outside, wrap
    )
    encoding = Encoding(request.format, request.quality, request.metadata, request.bits or 0)
    spec = RenderSpec(checkpoint.digest, latent, viewport, encoding)
    return ResolvedImage(checkpoint, spec)


_resolve_viewport = lru_cache(256)(Viewport.resolve)
"""Most images of a client differ in the latent alone, or show the tiles of one image."""


async def find_model(name: str | None, models: ModelLookup) -> Checkpoint:
    """The model of a request, by default the only one or the demo. Raises InputError and UnavailableError."""
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


JSON_TYPE = re.compile(r"application/([a-z0-9.-]+\+)?json")


def media_type(request: Request) -> str:
    """The media type of a body, without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def require_json(request: Request) -> None:
    """Raise HTTPException if a body is not announced as JSON."""
    announced = media_type(request)
    if request.method == "POST" and has_body(request.scope) and not JSON_TYPE.fullmatch(announced):
        given = f", not {printable(announced)}" if announced else ""
        detail = f"a body must be JSON, sent as Content-Type: application/json{given}"
        raise HTTPException(415, detail, {"Accept": "application/json"})  # RFC 9110, section 15.5.16


async def refuse_repeated_names(request: Request) -> None:
    """Raise InputError if a query gives a parameter twice, or a JSON body a key: which one is meant?"""
    parse_query(request)
    if request.method != "POST" or not JSON_TYPE.fullmatch(media_type(request)):
        return
    if repeated := _repeated_keys(await request.body()):
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
