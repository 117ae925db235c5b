"""The worker: takes requests from the queue, renders those of one model together, encodes, answers.

While one batch is encoded, the next is rendered. A worker holds no more than these two, and never dies of a request
that it can refuse; what it holds when it is killed is taken over by another.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.errors import InputError
from model.spec import Encoding, RenderSpec
from service import metrics
from service.catalog import Catalog
from service.consumer import PATIENCE, Consumer, Delivery
from service.encode import encode
from service.loaded_models import Load, LoadedModels
from service.queue import RenderFailed, WorkerInfo, failure_fields, stop_task, success_fields

logger = logging.getLogger(__name__)

BATCH_PIXELS = 1 << 22
"""Pixels that are enough for one batch: more at once would only keep them from other workers."""

BEATS = 4
"""Heartbeats sent, and looks at others' heartbeats taken, in the time after which a worker counts as dead."""

MIN_PAUSE, MAX_PAUSE = 0.1, 5.0
"""Seconds between attempts to reach Redis, doubled from one to the next."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class _Rendered:
    """One request's picture [h, w, 3], or why there is none, and the seconds that its batch took."""

    delivery: Delivery
    picture: Picture | RenderFailed
    seconds: float


class Worker:
    """One worker. :meth:`run` serves until :meth:`stop` is called.

    Args:
        redis: from :func:`service.queue.connect`.
        catalog: where models are found by their digest.
        load: makes a renderer of a checkpoint.
        device: what it renders on, for those who look at the workers.
        batch_limit: most pictures that are rendered together.
        patience: seconds without a heartbeat after which a worker counts as dead; all workers need the same.
        encode: makes a file of a picture.
    """

    def __init__(
        self,
        redis: "Redis",
        catalog: Catalog,
        load: Load,
        *,
        device: str,
        batch_limit: int,
        patience: float = PATIENCE,
        encode: Callable[[Picture, Encoding], bytes] = encode,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self._device = device
        self._batch_limit = batch_limit
        self._beat_seconds = patience / BEATS
        self._encode = encode
        self._consumer = Consumer(redis, self.id, patience)
        self._models = LoadedModels(catalog, load)
        self._stopping = asyncio.Event()
        self._answering: asyncio.Task[None] | None = None
        self._next_look = 0.0
        # One thread renders: the renderer itself uses all of the device.
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._encoders = ThreadPoolExecutor(thread_name_prefix="encode")

    def stop(self) -> None:
        """Takes no further requests. :meth:`run` returns once those that are held have been answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Serves requests. Outlives Redis: waits until it is back, and begins anew with an empty one."""
        try:
            async with asyncio.TaskGroup() as tasks:
                heart = tasks.create_task(self._beat())
                await self._serve_until_stopped()
                await self._answered()
                await stop_task(heart)
        finally:
            self._renderer.shutdown()
            self._encoders.shutdown()
            with contextlib.suppress(RedisError):  # others will sweep
                await self._consumer.leave()
        logger.info("worker %s has stopped", self.id)

    async def _serve_until_stopped(self) -> None:
        joined, pause = False, MIN_PAUSE
        while not self._stopping.is_set():
            try:
                if not joined:
                    await self._consumer.join()
                    logger.info("worker %s on %s is ready", self.id, self._device)
                    joined = True
                await self._serve_once()
                pause = MIN_PAUSE
            except RedisError as error:
                joined = False  # the group may be lost
                logger.warning("the queue cannot be used, next attempt in %g s: %s", pause, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(2 * pause, MAX_PAUSE)

    async def _serve_once(self) -> None:
        """Serves what was left by a dead worker, or what waits, or what comes within half a second."""
        if time.monotonic() >= self._next_look:
            if suspect := await self._consumer.take_over():
                # It may be what killed the other. Nothing else shall be held while it is tried.
                await self._answered()
                await self._serve([suspect])
                await self._answered()
                return
            await self._consumer.sweep()
            self._next_look = time.monotonic() + self._beat_seconds
        for batch in _by_model(await self._consumer.take(self._batch_limit, BATCH_PIXELS)):
            await self._serve(batch)

    async def _serve(self, batch: Sequence[Delivery]) -> None:
        """Renders a batch and leaves its answers to a task. Returns when nothing else waits to be answered."""
        wanted = await self._drop_unwanted(batch)
        if not wanted:
            return
        rendered = await asyncio.get_running_loop().run_in_executor(self._renderer, self._render_batch, wanted)
        await self._answered()
        self._answering = asyncio.create_task(self._answer(rendered))

    async def _answered(self) -> None:
        if self._answering:
            await self._answering
            self._answering = None

    async def _drop_unwanted(self, batch: Sequence[Delivery]) -> list[Delivery]:
        try:
            cancelled = await self._consumer.cancelled(batch)
        except RedisError:
            cancelled = set()  # to render for nobody is no harm
        wanted = []
        for delivery in batch:
            if delivery.request.id in cancelled:
                await self._drop(delivery, "cancelled")
            elif delivery.request.deadline < time.time():
                await self._drop(delivery, "deadline")
            else:
                wanted.append(delivery)
        return wanted

    async def _drop(self, delivery: Delivery, reason: str) -> None:
        metrics.DROPPED_REQUESTS.labels(reason).inc()
        with contextlib.suppress(RedisError):  # then it comes again, and is dropped again
            await self._consumer.drop(delivery)

    def _render_batch(self, batch: Sequence[Delivery]) -> list[_Rendered]:
        """In the render thread: the pictures of requests for one model."""
        now = time.time()
        for delivery in batch:
            metrics.QUEUE_WAIT.observe(max(now - delivery.request.submitted, 0.0))
        metrics.RENDER_BATCH_SIZE.observe(len(batch))
        started = time.perf_counter()
        pictures = self._render([delivery.request.spec for delivery in batch])
        seconds = time.perf_counter() - started
        return [_Rendered(delivery, picture, seconds) for delivery, picture in zip(batch, pictures, strict=True)]

    def _render(self, specs: Sequence[RenderSpec]) -> Sequence[Picture | RenderFailed]:
        try:
            model = self._models.get(specs[0].model)
        except Exception as error:
            return [_load_failure(specs[0].model, error)] * len(specs)
        started = time.perf_counter()
        pictures = None
        try:
            pictures = model.renderer.render_batch(specs)
        except Exception as error:
            if len(specs) == 1:
                return [_failure(error)]
        if pictures is None:  # after the exception, which keeps alive what had been allocated
            return [self._render([spec])[0] for spec in specs]  # whichever is to blame shall fail alone
        metrics.RENDER_DURATION.labels(model.name, model.renderer.backend).observe(time.perf_counter() - started)
        metrics.RENDERED_PIXELS.labels(model.name).inc(sum(spec.viewport.pixels for spec in specs))
        return pictures

    async def _answer(self, batch: Sequence[_Rendered]) -> None:
        await asyncio.gather(*map(self._answer_one, batch))

    async def _answer_one(self, rendered: _Rendered) -> None:
        request, picture = rendered.delivery.request, rendered.picture
        if request.deadline < time.time():
            await self._drop(rendered.delivery, "deadline")
            return
        if isinstance(picture, RenderFailed):
            fields = failure_fields(picture)
        else:
            loop = asyncio.get_running_loop()
            fields = await loop.run_in_executor(
                self._encoders, self._encode_picture, picture, request.spec.encoding, rendered.seconds
            )
        try:
            await self._consumer.answer(rendered.delivery, fields)
        except RedisError as error:
            logger.warning("request %s could not be answered: %s", request.id, error)

    def _encode_picture(self, picture: Picture, encoding: Encoding, render_seconds: float) -> dict[str, Any]:
        """In an encoding thread: the reply's fields."""
        started = time.perf_counter()
        try:
            content = self._encode(picture, encoding)
        except Exception as error:
            return failure_fields(_failure(error))
        seconds = time.perf_counter() - started
        metrics.ENCODE_DURATION.labels(encoding.format).observe(seconds)
        return success_fields(content, render_seconds, seconds)

    async def _beat(self) -> None:
        while True:
            state: Literal["idle", "busy", "stopping"] = "busy" if self._consumer.busy else "idle"
            if self._stopping.is_set():
                state = "stopping"
            with contextlib.suppress(RedisError):  # what serves will tell of it
                await self._consumer.beat(WorkerInfo(self.id, self._device, state, self._models.digests))
            await asyncio.sleep(self._beat_seconds)


def _by_model(deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
    """One batch for each model, in the order of their first requests."""
    batches: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        batches.setdefault(delivery.request.spec.model, []).append(delivery)
    return list(batches.values())


def _failure(error: Exception) -> RenderFailed:
    if isinstance(error, InputError):
        return RenderFailed("invalid", error.message, error.field)
    if _is_out_of_memory(error):
        logger.warning("a picture does not fit the memory: %s", error)
        return RenderFailed("memory", "the picture does not fit the memory of the worker")
    logger.error("a picture failed", exc_info=error)
    return RenderFailed("failed", f"the worker met an unexpected {type(error).__name__}; its log tells more")


def _load_failure(digest: str, error: Exception) -> RenderFailed:
    if _is_out_of_memory(error):
        logger.error("model %s does not fit the memory: %s", digest, error)
        return RenderFailed("memory", "the model does not fit the memory of the worker")
    unexpected = None if isinstance(error, InputError) else error
    logger.error("model %s cannot be loaded: %s", digest, error, exc_info=unexpected)
    return RenderFailed("unavailable", "the worker cannot load the model; its log tells why")  # a path may be secret


def _is_out_of_memory(error: Exception) -> bool:
    """Also torch's errors, of which only that of a GPU has a class of its own."""
    named = (
        type(error).__name__ == "OutOfMemoryError"
        or "out of memory" in str(error)
        or "DefaultCPUAllocator" in str(error)
    )
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and named)
