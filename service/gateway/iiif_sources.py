"""Where IIIF's pictures come from: drawn at once, or out of the tiles that a job has stored."""

import asyncio
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol

import numpy as np
import obstore
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from starlette.requests import Request

from model.errors import InputError
from model.spec import Encoding, Format, RenderSpec
from model.viewport import Viewport
from service.gateway import caching
from service.gateway.drawing import draw, server_timing
from service.gateway.pictures import MAX_POSITIONS, Picture, check_positions, check_work, resolve_picture
from service.gateway.requests import ImageRequest
from service.gateway.services import Services
from service.iiif.errors import UnknownIdentifierError
from service.iiif.identifier import LiveIdentifier, StoredIdentifier, parse_identifier
from service.iiif.region import Box
from service.iiif.request import Resolved, Suffix
from service.iiif.size import Limits, Sides
from service.iiif.transform import transform
from service.jobs.board import UnknownJobError
from service.jobs.job import Job
from service.outputs.pyramid import Level
from service.outputs.store import Store
from service.validation import explain

LIVE_TILE = 512

_READ_AT_ONCE = 8

_FORMATS: dict[Suffix, Format] = {"jpg": "jpeg", "png": "png", "webp": "webp"}


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
    """
    named = parse_identifier(identifier)
    if isinstance(named, StoredIdentifier):
        return StoredSource(await services.jobs.finished(named.job), services)
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
        return LiveSource(named, await resolve_picture(wanted, services.models), request, services)
    except ValidationError as error:
        raise UnknownIdentifierError("identifier", explain(error.errors()[0])) from None
    except InputError as error:
        raise UnknownIdentifierError("identifier", error.message) from None


class LiveSource:
    """A picture that is drawn at whatever size it is asked for, also above its own: there is always more to see."""

    def __init__(self, named: LiveIdentifier, picture: Picture, request: Request, services: Services) -> None:
        self.width = self.height = named.side
        self.tile = LIVE_TILE
        self.limits = limits_of(services)
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
        picture = Image.open(BytesIO(drawn.content))
        return Answer(await run_in_threadpool(transform, picture, request), server_timing(drawn))

    def _spec(self, request: Resolved) -> RenderSpec:
        resolution = self._picture.checkpoint.config.resolution
        viewport = live_viewport(self.width, request.box, request.sides)
        check_work(viewport, resolution, self._services.settings.max_image_pixels)
        check_positions(viewport, resolution)
        encoding = Encoding(_FORMATS[request.suffix] if request.is_plain else "png")
        return RenderSpec(self.digest, self._picture.spec.latent, viewport, encoding)


def limits_of(services: Services) -> Limits:
    """What one answer may have: both sides together have no more rows and columns than a request may need."""
    return Limits(MAX_POSITIONS // 2, MAX_POSITIONS // 2, services.settings.max_image_pixels)


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

    def __init__(self, job: Job, services: Services) -> None:
        if job.order.kind != "dzi":
            raise UnknownJobError("identifier", f"must be of a job with the output dzi; this has {job.order.kind}")
        self._job = job
        self._store: Store = services.outputs
        picture = job.order.pyramid.levels[-1]
        self.width, self.height, self.tile = picture.width, picture.height, picture.tile
        self.limits = limits_of(services)
        self.digest = job.order.spec.model
        self.seed = job.order.spec.latent.seed or 0
        self.immutable = True

    def tag(self, request: Resolved) -> str:
        return f'"{caching.RENDERING_VERSION}-{self._job.id}-{request.canonical.replace("/", "-")}"'

    async def answer(self, request: Resolved) -> Answer:
        pyramid = self._job.order.pyramid
        number = self._level(request)
        level = pyramid.levels[number]
        scale = level.width / self.width, level.height / self.height
        x, y, w, h = request.box
        left, right = x * scale[0], min((x + w) * scale[0], level.width)
        top, bottom = y * scale[1], min((y + h) * scale[1], level.height)
        columns = range(int(left) // level.tile, -(-math.ceil(right) // level.tile))
        rows = range(int(top) // level.tile, -(-math.ceil(bottom) // level.tile))
        places = [(column, row) for row in rows for column in columns]
        if request.is_plain and self._job.order.suffix == request.suffix and len(places) == 1:
            tile_box = level.box(*places[0])
            if (
                all(a == b for a, b in zip((left, top, right - left, bottom - top), tile_box, strict=True))
                and request.sides == tile_box[2:]
            ):
                return Answer(await self._read(pyramid.index(number, *places[0])))
        origin = columns.start * level.tile, rows.start * level.tile
        canvas = await self._stitch(number, level, places, origin)
        part = left - origin[0], top - origin[1], right - origin[0], bottom - origin[1]
        return Answer(await run_in_threadpool(_scale, canvas, part, request))

    def _level(self, request: Resolved) -> int:
        """The smallest level that has the region in no less pixels than it is asked in."""
        _, _, w, h = request.box
        wanted = max(request.sides[0] / w, request.sides[1] / h)
        levels = self._job.order.pyramid.levels
        return next(
            (
                number
                for number, level in enumerate(levels)
                if max(level.width / self.width, level.height / self.height) >= wanted
            ),
            len(levels) - 1,
        )

    async def _stitch(
        self, number: int, level: Level, places: list[tuple[int, int]], origin: tuple[int, int]
    ) -> NDArray[np.uint8]:
        boxes = [level.box(*place) for place in places]
        width = max(x + w for x, _, w, _ in boxes) - origin[0]
        height = max(y + h for _, y, _, h in boxes) - origin[1]
        canvas = np.empty((height, width, 3), np.uint8)
        slots = asyncio.Semaphore(_READ_AT_ONCE)

        async def place(index: int, box: Box) -> None:
            async with slots:
                content = await self._read(index)
                x, y, w, h = box[0] - origin[0], box[1] - origin[1], box[2], box[3]
                canvas[y : y + h, x : x + w] = await run_in_threadpool(_decode, content)

        indices = [self._job.order.pyramid.index(number, *at) for at in places]
        await asyncio.gather(*(place(index, box) for index, box in zip(indices, boxes, strict=True)))
        return canvas

    async def _read(self, index: int) -> bytes:
        path = self._job.path(self._job.order.tile_name(index))
        try:
            found = await obstore.get_async(self._store, path)
        except FileNotFoundError:
            raise UnknownJobError("identifier", "names a job whose files are being removed") from None
        return bytes(await found.bytes_async())


def _decode(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


def _scale(canvas: NDArray[np.uint8], part: tuple[float, float, float, float], request: Resolved) -> bytes:
    picture = Image.fromarray(canvas)
    left, top, right, bottom = (round(edge) for edge in part)
    edges: tuple[float, ...] = (left, top, right, bottom)
    if edges == part and (right - left, bottom - top) == request.sides:
        picture = picture.crop((left, top, right, bottom))  # pixel for pixel
    else:
        picture = picture.resize(request.sides, Image.Resampling.LANCZOS, box=part)
    return transform(picture, request)
