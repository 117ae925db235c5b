"""Where IIIF's pictures come from: drawn at once, or out of the tiles that a job has stored."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

import imagecodecs
import obstore
from pydantic import ValidationError
from starlette.requests import Request

from model.errors import InputError
from model.spec import MAX_SIDES, Encoding, RenderSpec
from model.viewport import Viewport
from service.gateway import caching
from service.gateway.connection import while_connected
from service.gateway.drawing import draw, server_timing
from service.gateway.errors import TooLargeError
from service.gateway.pictures import MAX_POSITIONS, Picture, check_positions, check_work, resolve_picture
from service.gateway.requests import ImageRequest
from service.gateway.services import Services
from service.iiif.errors import UnknownIdentifierError
from service.iiif.identifier import LiveIdentifier, StoredIdentifier, parse_identifier
from service.iiif.pyramids import edges_in, level_for, read_scaled, tile_of
from service.iiif.region import Box
from service.iiif.request import Resolved
from service.iiif.size import Limits, Sides
from service.iiif.transform import FORMATS, transform
from service.jobs.board import UnknownJobError
from service.jobs.job import Job
from service.queue import DeadlinePassed
from service.validation import explain

LIVE_TILE = 512

LEAST_TILE = 64
"""Smaller ones would cost more for each request than for their pixels."""


@dataclass(frozen=True)
class Answer:
    """A picture file, and the header Server-Timing where something was drawn."""

    content: bytes
    timing: str | None = None


class Source(Protocol):
    """A picture of ``width`` × ``height`` pixels, of which any part can be had at any size within ``limits``."""

    width: int
    height: int
    tile: int
    limits: Limits
    digest: str
    seed: int
    immutable: bool

    def tag(self, request: Resolved) -> str:
        """The strong entity tag of an answer. Raises TooLargeError where there is none."""

    async def answer(self, request: Resolved) -> Answer:
        """The file."""


async def find_source(identifier: str, request: Request, services: Services) -> Source:
    """What an identifier names.

    Raises:
        UnknownIdentifierError, UnknownJobError: it names nothing.
        TooLargeError: it names a picture that cannot be drawn whole at any size.
    """
    named = parse_identifier(identifier)
    if isinstance(named, StoredIdentifier):
        return StoredSource(await services.jobs.finished(named.job), request, services)
    return await _live(named, request, services)


async def _live(named: LiveIdentifier, request: Request, services: Services) -> "LiveSource":
    try:
        wanted = ImageRequest.model_validate(
            {
                "model": named.model,
                "seed": named.seed,
                "truncation_psi": named.psi,
                "truncation_cutoff": named.cutoff,
                "class_index": named.class_index,
                "width": named.side,
            }
        )
        picture = await resolve_picture(wanted, services.models)
    except ValidationError as error:
        finding = error.errors()[0]
        raise _unknown(str(finding["loc"][0]), explain(finding)) from None
    except InputError as error:
        raise _unknown(error.field, error.message) from None
    return LiveSource(named, picture, request, services)


_PARTS = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class", "width": "size"}
"""What identifiers call fields of ImageRequest."""


def _unknown(field: str, message: str) -> UnknownIdentifierError:
    return UnknownIdentifierError("identifier", f"{_PARTS.get(field, field)}: {message}")


class LiveSource:
    """A picture that is drawn at whatever size it is asked for, also above its own: there is always more to see."""

    def __init__(self, named: LiveIdentifier, picture: Picture, request: Request, services: Services) -> None:
        self.width = self.height = named.side
        self.limits = live_limits(limits_of(services), named.side, picture.checkpoint.config.resolution)
        self.tile = live_tile(self.limits, named.side)
        self.digest = picture.checkpoint.digest
        self.seed = picture.seed
        self.immutable = named.model == self.digest
        self._picture = picture
        self._request = request
        self._services = services

    def tag(self, request: Resolved) -> str:
        plain = caching.entity_tag(self._spec(request))
        return plain if request.is_plain else f'{plain[:-1]}-{request.rotation}-{request.quality}-{request.suffix}"'

    async def answer(self, request: Resolved) -> Answer:
        drawn = await draw(self._spec(request), self._request, self._services)
        if request.is_plain:
            return Answer(drawn.content, server_timing(drawn))

        async def turn() -> bytes:
            return await _in_thread(lambda: transform(imagecodecs.png_decode(drawn.content), request))

        with self._services.answers.hold(drawn.content):
            return Answer(await _in_turn(turn, self._request, self._services), server_timing(drawn))

    def _spec(self, request: Resolved) -> RenderSpec:
        resolution = self._picture.checkpoint.config.resolution
        viewport = live_viewport(self.width, request.box, request.sides)
        check_work(viewport, resolution, self._services.settings.max_image_pixels)
        check_positions(viewport, resolution)
        encoding = Encoding(FORMATS[request.suffix] if request.is_plain else "png")
        return RenderSpec(self.digest, self._picture.spec.latent, viewport, encoding)


def limits_of(services: Services, least: int = 1) -> Limits:
    """What one answer may have: both sides together no more rows and columns than a request may need, and each no more
    than every format can hold. A square of side ``least`` is always allowed."""
    area = max(services.settings.max_image_pixels, least**2)
    side = min(MAX_POSITIONS // 2, *MAX_SIDES.values(), area)
    return Limits(side, side, area)


def live_limits(limits: Limits, side: int, resolution: int) -> Limits:
    """The limits within which the square picture of ``side`` pixels can be drawn at the size ``max``, whole or in part.

    Raises:
        TooLargeError: it can be drawn whole at no size.
    """
    limits = replace(limits, resolution=resolution)
    largest = limits.largest_drawn(side)
    if not largest:
        drawn = f"{resolution}×{resolution}"
        raise TooLargeError("identifier", f"names a model that draws {drawn} pixels, above the limit of {limits.area}")
    # At the training resolution and above nothing is averaged: what the limits hold can be drawn.
    return limits if largest == side or largest >= resolution else replace(limits, width=largest, height=largest)


def live_tile(limits: Limits, side: int) -> int:
    """The side of tiles that can be drawn of all levels of the square picture.

    There are such where the limits' area is (R + LEAST_TILE)² or more. Below that the coarsest levels may be refused.
    """
    tile = LIVE_TILE
    while not limits.hold((tile, tile)) or (tile > LEAST_TILE and not _draws_all_levels(limits, side, tile)):
        tile //= 2
    return tile


def _draws_all_levels(limits: Limits, side: int, tile: int) -> bool:
    covered = tile
    while covered < side:
        if not limits.hold_drawn((tile, tile), covered / side):
            return False
        covered *= 2
    overview = -(-side * tile // covered)
    return limits.hold_drawn((overview, overview))


def live_viewport(side: int, box: Box, sides: Sides) -> Viewport:
    """A box of the square picture of ``side`` pixels, drawn at another size.

    Where that size makes the whole picture one of whole pixels, the box is a crop of it: then tiles side by side share
    their lines, and have the pixels that a crop of that picture has anywhere else.
    """
    x, y, w, h = box
    whole = side * sides[0] / w, side * sides[1] / h
    start = x * sides[0] / w, y * sides[1] / h
    if all(value.is_integer() for value in (*whole, *start)) and whole[0] == whole[1]:
        width, height, left, top = (int(value) for value in (*whole, *start))
        try:
            return Viewport.resolve(width, height, None, (left, top, *sides))
        except InputError:
            pass  # larger than whole pictures may be: its part is drawn as a picture of its own
    return Viewport.resolve(*sides, (x / side, y / side, (x + w) / side, (y + h) / side))


class StoredSource:
    """A finished job of Deep Zoom, read tile by tile."""

    def __init__(self, job: Job, request: Request, services: Services) -> None:
        if job.order.kind != "dzi":
            raise UnknownJobError("identifier", f"must be of a job with the output dzi; this has {job.order.kind}")
        picture = job.order.pyramid.levels[-1]
        self.width, self.height, self.tile = picture.width, picture.height, picture.tile
        self.limits = limits_of(services, least=self.tile)
        self.digest = job.order.spec.model
        self.seed = job.order.spec.latent.seed or 0
        self.immutable = True
        self._job = job
        self._request = request
        self._services = services

    def tag(self, request: Resolved) -> str:
        return f'"{caching.RENDERING_VERSION}-{self._job.id}-{request.canonical.replace("/", "-")}"'

    async def answer(self, request: Resolved) -> Answer:
        order = self._job.order
        index = tile_of(order.pyramid, request.box, request.sides)
        if index is not None and request.is_plain and order.suffix == request.suffix:
            return Answer(await self._read(index))
        return Answer(await _in_turn(lambda: self._put_together(request), self._request, self._services))

    async def _put_together(self, request: Resolved) -> bytes:
        pyramid = self._job.order.pyramid
        number = level_for(pyramid, request.box, request.sides)
        level = pyramid.levels[number]

        async def read(column: int, row: int) -> bytes:
            return await self._read(pyramid.index(number, column, row))

        edges = edges_in(level, pyramid.levels[-1], request.box)
        pixels = await read_scaled(level, read, edges, request.sides)
        return await _in_thread(lambda: transform(pixels, request))

    async def _read(self, index: int) -> bytes:
        path = self._job.path(self._job.order.tile_name(index))
        try:
            found = await obstore.get_async(self._services.outputs, path)
        except FileNotFoundError:
            raise UnknownJobError("identifier", "names a job whose files are being removed") from None
        return bytes(await found.bytes_async())


async def _in_turn(work: Callable[[], Coroutine[Any, Any, bytes]], request: Request, services: Services) -> bytes:
    """A file that the gateway makes itself, no more than STITCHED_AT_ONCE of which are made at once.

    Raises:
        DeadlinePassed: it was not ready in time. ClientGoneError: nobody waits any more.
    """

    async def make() -> bytes:
        async with services.stitching:
            return await work()

    seconds = services.settings.request_timeout
    try:
        async with asyncio.timeout(seconds):
            return await while_connected(request, make())
    except TimeoutError:
        raise DeadlinePassed(f"the picture was not put together within {seconds:g} s") from None


async def _in_thread(work: Callable[[], bytes]) -> bytes:
    """Cancelled, it waits for its thread, which nobody can stop: until then the memory is taken, and so is the turn."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])
