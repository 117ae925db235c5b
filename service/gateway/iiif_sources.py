"""The images behind IIIF identifiers: rendered on request, or stored as tiles by a job."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, NamedTuple

import imagecodecs
import obstore
from pydantic import ValidationError
from starlette.requests import Request

from model.errors import InputError
from model.spec import MAX_SIDES, Encoding
from model.viewport import Viewport
from service.gateway import http_cache
from service.gateway.disconnect import cancel_on_disconnect
from service.gateway.errors import TooLargeError
from service.gateway.in_thread import in_thread
from service.gateway.job_status import find_job
from service.gateway.render import render_image, server_timing
from service.gateway.resolve import MAX_POSITIONS, ResolvedImage, check_limits, resolve_image
from service.gateway.schema_types import SHORT_NAMES
from service.gateway.schemas import ImageRequest
from service.gateway.state import AppState
from service.iiif.identifier import LiveIdentifier, StoredIdentifier, parse_identifier
from service.iiif.request import Limits, ResolvedRequest, UnknownIdentifierError
from service.iiif.transform import transform
from service.iiif.turn import turned_viewport
from service.imaging.pyramid import Box, Sides
from service.imaging.pyramid_reader import edges_in, level_for, read_scaled, tile_of
from service.imaging.video_spec import VideoSpec
from service.jobs.job import Job
from service.jobs.repository import UnknownJobError
from service.queue.messages import DeadlinePassed
from service.runtime.validation import explain

LIVE_TILE = 512
"""Side of the tiles of rendered images, unless the limits are lower."""

MIN_TILE = 64
"""Below it, the overhead of a request exceeds the cost of its pixels."""


class Answer(NamedTuple):
    """An encoded part of an image, with its entity tag and, if it was rendered, its Server-Timing."""

    content: bytes
    tag: str
    timing: str | None = None


async def find_source(identifier: str, request: Request, app_state: AppState) -> "Source":
    """The image of an identifier. Raises UnknownIdentifierError or UnknownJobError if there is none, and TooLargeError
    if it is above the limits at every size."""
    named = parse_identifier(identifier)
    if isinstance(named, StoredIdentifier):
        status = await find_job(named.job, request, app_state)
        if status.state != "succeeded":
            raise UnknownJobError("job", f"is {status.state}: it has no finished output")
        return StoredSource(status.job, request, app_state)
    fields: dict[str, Any] = {"model": named.model, "truncation_psi": named.psi, "width": named.side}
    fields |= {"truncation_cutoff": named.cutoff, "class_index": named.class_index, "wrap": named.wrap}
    fields |= {"seed": named.seed} if isinstance(named.seed, int) else {"latent": {"id": named.seed}}
    try:
        image = await resolve_image(ImageRequest.model_validate(fields), app_state)
    except ValidationError as error:
        finding = error.errors()[0]
        raise _unknown(str(finding["loc"][0]), explain(finding)) from None
    except InputError as error:
        raise _unknown(error.field, error.message) from None
    return LiveSource(named, image, request, app_state)


def _unknown(field: str, message: str) -> UnknownIdentifierError:
    """The error of a field of ImageRequest, named as in identifiers."""
    name = "size" if field == "width" else SHORT_NAMES.get(field, field)
    return UnknownIdentifierError("identifier", f"{name}: {message}")


class LiveSource:
    """A square image, any part of which is rendered at any size within ``limits``, also above its own."""

    def __init__(self, named: LiveIdentifier, image: ResolvedImage, request: Request, app_state: AppState) -> None:
        self.width = self.height = named.side
        config = image.checkpoint.config
        self.limits = live_limits(_limits(app_state), named.side, config.resolution, config.max_scale)
        self.tile = live_tile(self.limits, named.side)
        self.spec = image.spec
        self.immutable = named.model == self.spec.model
        self._image = image
        self._request = request
        self._app_state = app_state

    def expected_tag(self, request: ResolvedRequest) -> str | None:
        """The strong entity tag of the answer, if it is known. Raises TooLargeError if the request is above a limit."""
        arithmetic = self._app_state.arithmetics.get(self.spec.model)
        return http_cache.expected_tag(self._request, self._name(request), arithmetic)

    def _name(self, request: ResolvedRequest) -> str:
        """The name of the answer in entity tags."""
        name = http_cache.image_key(self._resolve(request).spec)
        return name if request.is_plain else f"{name}-{request.rotation}-{request.quality}-{request.suffix}"

    async def answer(self, request: ResolvedRequest) -> Answer:
        """The encoded part."""
        result = await render_image(self._resolve(request), self._request, self._app_state)
        tag = http_cache.entity_tag(self._name(request), result.arithmetic)
        if request.is_plain:
            return Answer(result.content, tag, server_timing(result))

        async def transform_result() -> bytes:
            turned = request.rotation.is_oblique
            return await in_thread(lambda: transform(imagecodecs.png_decode(result.content), request, turned=turned))

        with self._app_state.in_flight.hold(result.content):
            content = await _limited(transform_result, self._request, self._app_state)
        return Answer(content, tag, server_timing(result))

    def _resolve(self, request: ResolvedRequest) -> ResolvedImage:
        viewport = live_viewport(self.width, request.box, request.sides)
        viewport = replace(viewport, wrap=self._image.spec.viewport.wrap)
        if request.rotation.is_oblique:
            viewport = turned_viewport(viewport, request.rotation)
        check_limits(viewport, self._image.checkpoint.config, self._app_state.settings.max_image_pixels)
        encoding = Encoding(request.format if request.is_plain else "png", metadata="none")  # mostly tiles
        return replace(self._image, spec=replace(self._image.spec, viewport=viewport, encoding=encoding))


def _limits(app_state: AppState, least: int = 1) -> Limits:
    """The limits of one answer: of pixels, of rows plus columns, of the file formats. A square of ``least`` pixels a
    side is always allowed."""
    area = max(app_state.settings.max_image_pixels, least**2)
    side = min(MAX_POSITIONS // 2, *MAX_SIDES.values(), area)
    return Limits(side, side, area)


def live_limits(limits: Limits, side: int, resolution: int, max_scale: float = 1.0) -> Limits:
    """The limits in which a square image of ``side`` pixels can be rendered at the size ``max``, whole or in part.
    Raises TooLargeError if the whole image is above the limits at every size."""
    limits = replace(limits, resolution=resolution, max_scale=max_scale)
    largest = limits.largest_rendered(side)
    if not largest:
        pixels = f"{resolution}×{resolution} pixels"
        raise TooLargeError("identifier", f"has a model that renders {pixels}, above the limit of {limits.area}")
    # At the resolution of the finest detail and above nothing is averaged: the limits are those of the answer.
    reaches_finest = min(limits.width, limits.height, math.isqrt(limits.area)) >= resolution * max_scale
    if reaches_finest and (largest == side or largest >= resolution * max_scale):
        return limits
    return replace(limits, width=largest, height=largest)


def live_tile(limits: Limits, side: int) -> int:
    """The side of tiles that can be rendered at all levels of a square image.

    It exists if the limits' area is at least (R + MIN_TILE)². Below that, the coarsest levels may be refused.
    """
    tile = LIVE_TILE
    while not limits.allow((tile, tile)) or (tile > MIN_TILE and not _allows_all_levels(limits, side, tile)):
        tile //= 2
    return tile


def _allows_all_levels(limits: Limits, side: int, tile: int) -> bool:
    covered = tile
    while covered < side:
        if not limits.allow_rendering((tile, tile), covered / side):
            return False
        covered *= 2
    overview = -(-side * tile // covered)
    return limits.allow_rendering((overview, overview))


def live_viewport(side: int, box: Box, sides: Sides) -> Viewport:
    """The viewport of a box of a square image of ``side`` pixels, rendered at another size.

    If the whole image has an integer size at this scale, the viewport is a crop of it: adjacent tiles share lines, and
    have the same pixels as any other crop of that image.
    """
    x, y, w, h = box
    whole = side * sides[0] / w, side * sides[1] / h
    start = x * sides[0] / w, y * sides[1] / h
    if all(value.is_integer() for value in (*whole, *start)) and whole[0] == whole[1]:
        width, height, left, top = (int(value) for value in (*whole, *start))
        try:
            return Viewport.resolve(width, height, None, (left, top, *sides))
        except InputError:
            pass  # the whole is above the largest size: render the part as an image of its own
    return Viewport.resolve(*sides, (x / side, y / side, (x + w) / side, (y + h) / side))


class StoredSource:
    """The Deep Zoom output of a finished job, any part of which is available at any size within ``limits``."""

    def __init__(self, job: Job, request: Request, app_state: AppState) -> None:
        export = job.export
        if isinstance(export, VideoSpec) or export.kind != "dzi":
            raise UnknownJobError("identifier", f"must be of a job with output dzi, not {export.kind}")
        image = export.pyramid.levels[-1]
        self.width, self.height, self.tile = image.width, image.height, image.tile
        self.limits = _limits(app_state, least=self.tile)
        self.spec = export.spec
        self.immutable = True
        self._job = job
        self._export = export
        self._request = request
        self._app_state = app_state

    def expected_tag(self, request: ResolvedRequest) -> str:
        return f'"{http_cache.RENDERING_VERSION}-{self._job.id}-{request.canonical.replace("/", "-")}"'

    async def answer(self, request: ResolvedRequest) -> Answer:
        export = self._export
        index = tile_of(export.pyramid, request.box, request.sides)
        if index is not None and request.is_plain and export.suffix == request.suffix:
            content = await self._read(index)
        else:
            content = await _limited(lambda: self._assemble(request), self._request, self._app_state)
        return Answer(content, self.expected_tag(request))

    async def _assemble(self, request: ResolvedRequest) -> bytes:
        """Scale the tiles of the nearest larger level."""
        pyramid = self._export.pyramid
        number = level_for(pyramid, request.box, request.sides)
        level = pyramid.levels[number]

        async def read(column: int, row: int) -> bytes:
            return await self._read(pyramid.index(number, column, row))

        edges = edges_in(level, pyramid.levels[-1], request.box)
        pixels = await read_scaled(level, read, edges, request.sides)
        return await in_thread(lambda: transform(pixels, request))

    async def _read(self, index: int) -> bytes:
        path = self._job.path(self._export.tile_name(index))
        try:
            found = await obstore.get_async(self._app_state.outputs, path)
        except FileNotFoundError:
            raise UnknownJobError("identifier", "has a job whose files are being removed") from None
        return bytes(await found.bytes_async())


Source = LiveSource | StoredSource


async def _limited(work: Callable[[], Coroutine[Any, Any, bytes]], request: Request, app_state: AppState) -> bytes:
    """The result of ``work``, of which MAX_TRANSFORMS run at once. Raises DeadlinePassed after CREPS_REQUEST_TIMEOUT,
    and ClientDisconnectedError."""

    async def run() -> bytes:
        async with app_state.transforms:
            return await work()

    seconds = app_state.settings.request_timeout
    try:
        async with asyncio.timeout(seconds):
            return await cancel_on_disconnect(request, run())
    except TimeoutError:
        raise DeadlinePassed(f"the image was not ready within {seconds:g} s") from None
