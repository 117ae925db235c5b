"""Several images in one answer: rendered a few at a time, each failing on its own."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import imagecodecs
from starlette.requests import Request

from model.spec import Encoding
from service.gateway.errors import MEDIA_TYPE, STATUSES, ClientDisconnectedError, TooLargeError, problem_response
from service.gateway.in_thread import in_thread
from service.gateway.render import render_image
from service.gateway.resolve import ResolvedImage
from service.gateway.state import AppState
from service.gateway.zip_stream import zip_stream
from service.imaging.contact_sheet import contact_sheet
from service.imaging.encode import MEDIA_TYPES, encode
from service.queue.messages import QueueFull, RenderResult

CONCURRENT = 32
"""Images of one request that wait for workers at once: what a GPU worker takes as one batch."""

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Part:
    """An image of a batch: the name of its file, and what the manifest says of it."""

    name: str
    image: ResolvedImage
    about: dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """A part with its encoded image, or why there is none."""

    part: Part
    outcome: RenderResult | Exception

    def describe(self) -> dict[str, Any]:
        """The part's entry in the manifest."""
        if isinstance(self.outcome, RenderResult):
            return self.part.about | {"file": self.part.name}
        return self.part.about | {"problem": json.loads(bytes(problem_response(self.outcome).body))}


def check_batch(images: Sequence[ResolvedImage], app_state: AppState, field: str) -> None:
    """Raise TooLargeError if images of one model have more pixels together than one image may have."""
    limit = app_state.settings.max_image_pixels
    config = images[0].checkpoint.config
    pixels = sum(image.spec.viewport.rendered_pixels(config.resolution, config.max_scale) for image in images)
    if pixels > limit:
        raise TooLargeError(
            field, f"{len(images)} images take {pixels} pixels, above the limit of {limit} for one request"
        )


async def render_batch(parts: Sequence[Part], request: Request, app_state: AppState) -> AsyncGenerator[Rendered]:
    """Renders parts and yields them in order. Each counts as in flight until the next one is asked for.

    Raises ClientDisconnectedError, and exceptions that are no answer to a client.
    """
    waiting, running = deque(parts), deque[tuple[asyncio.Task[Rendered], ExitStack]]()
    try:
        while waiting or running:
            while waiting and len(running) < CONCURRENT:
                held = ExitStack()
                running.append((asyncio.create_task(_render(waiting.popleft(), held, request, app_state)), held))
            task, held = running[0]
            yield await task
            held.close()
            running.popleft()
    finally:
        for task, _ in running:
            task.cancel()
        await asyncio.gather(*(task for task, _ in running), return_exceptions=True)
        for _, held in running:
            held.close()


async def _render(part: Part, held: ExitStack, request: Request, app_state: AppState) -> Rendered:
    loop = asyncio.get_running_loop()
    end = loop.time() + app_state.settings.request_timeout
    while True:
        try:
            result = await render_image(part.image, request, app_state)
            held.enter_context(app_state.in_flight.hold(result.content))
            return Rendered(part, result)
        except ClientDisconnectedError:
            raise
        except QueueFull as error:
            if loop.time() + error.retry_after > end:
                return Rendered(part, error)
            await asyncio.sleep(error.retry_after)
        except tuple(STATUSES) as error:
            return Rendered(part, error)


async def after_first_success(rendered: AsyncGenerator[Rendered]) -> AsyncGenerator[Rendered]:
    """The same parts, once one of them has succeeded. If all fail the first error is raised: it decides the status."""
    found: list[Rendered] = []
    async for each in rendered:
        found.append(each)
        if isinstance(each.outcome, RenderResult):
            return _chain(found, rendered)
    raise next(each.outcome for each in found if isinstance(each.outcome, Exception))


async def _chain(found: Sequence[Rendered], rendered: AsyncGenerator[Rendered]) -> AsyncGenerator[Rendered]:
    async with aclosing(rendered):
        for each in found:
            yield each
        async for each in rendered:
            yield each


async def as_zip(rendered: AsyncGenerator[Rendered]) -> AsyncIterator[bytes]:
    """A zip of the images, and a manifest."""

    async def files() -> AsyncIterator[tuple[str, bytes]]:
        entries = []
        async with aclosing(rendered):
            async for each in rendered:
                entries.append(each.describe())
                if isinstance(each.outcome, RenderResult):
                    yield each.part.name, each.outcome.content
        yield MANIFEST, json.dumps({"images": entries}).encode()

    async for chunk in zip_stream(files()):
        yield chunk


async def as_multipart(rendered: AsyncGenerator[Rendered], boundary: str) -> AsyncIterator[bytes]:
    """multipart/mixed (RFC 2046, section 5.1): the images, problems in place of those that failed, and a manifest."""
    entries = []
    async with aclosing(rendered):
        async for each in rendered:
            entries.append(each.describe())
            if isinstance(each.outcome, RenderResult):
                media_type = MEDIA_TYPES[each.part.image.spec.encoding.format]
                yield _part(boundary, media_type, each.part.name, each.outcome.content)
            else:
                problem = json.dumps(entries[-1]["problem"]).encode()
                yield _part(boundary, MEDIA_TYPE, f"{each.part.name}.json", problem)
    yield _part(boundary, "application/json", MANIFEST, json.dumps({"images": entries}).encode())
    yield f"--{boundary}--\r\n".encode()


def _part(boundary: str, media_type: str, name: str, content: bytes) -> bytes:
    disposition = f'Content-Disposition: attachment; filename="{name}"'
    return f"--{boundary}\r\nContent-Type: {media_type}\r\n{disposition}\r\n\r\n".encode() + content + b"\r\n"


async def as_sheet(
    rendered: AsyncGenerator[Rendered], labels: Sequence[str], columns: int, encoding: Encoding, app_state: AppState
) -> bytes:
    """A contact sheet of PNG images. Those that failed are grey."""
    contents: list[bytes | None] = []
    with ExitStack() as held:
        async with aclosing(rendered):
            async for each in rendered:
                content = each.outcome.content if isinstance(each.outcome, RenderResult) else None
                contents.append(content)
                if content is not None:
                    held.enter_context(app_state.in_flight.hold(content))

        def assemble() -> bytes:
            images = [None if content is None else imagecodecs.png_decode(content) for content in contents]
            return encode(contact_sheet(images, columns, labels), encoding)

        async with app_state.transforms:
            return await in_thread(assemble)
