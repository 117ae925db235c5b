"""The worker: takes requests and tiles from the queue, renders those of one model together, encodes, answers or stores.

While one batch is encoded, the next is rendered. A worker holds no more than these two, and never dies of a request
that it can refuse; what it holds when it is killed is taken over by another.
"""

import asyncio
import contextlib
import contextvars
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.spec import Encoding, RenderSpec
from service import metrics
from service.catalog import Catalog
from service.consumer import PATIENCE, Budget, Consumer, Delivery, Taken
from service.encode import encode
from service.jobs.task import TileTask
from service.jobs.tile_work import Tile, TileWork
from service.loaded_models import CPU_BYTES, Load
from service.logs import log_context
from service.outputs.store import Store
from service.queue import (
    BATCH,
    PICTURES,
    TILES,
    RenderFailed,
    Request,
    WorkerInfo,
    WorkerState,
    failure_fields,
    stop_task,
    success_fields,
)
from service.rendering import Picture, Rendering, failure
from service.tracing import record_span

logger = logging.getLogger(__name__)

BATCH_PIXELS = 1 << 22
"""Pixels that are enough for one batch: more at once would only keep them from other workers."""

BEATS = 4
"""Heartbeats sent, and looks at others' heartbeats taken, in the time after which a worker counts as dead."""

LOOK_SECONDS = 2.0
"""Between two looks whether the models that are loaded are still served."""

HUNG_SECONDS = 60.0
"""An event loop hangs that has not come round for so long: what it waits for, Redis too, answers or fails sooner."""

TILE_SECONDS, MAX_TILES = 0.5, 64
"""How long tiles are rendered in one go, as the slowest model's speed was last measured, and how many at most."""

MIN_PAUSE, MAX_PAUSE = 0.1, 5.0
"""Seconds between attempts to reach Redis, doubled from one to the next."""

Item = Delivery | Tile
"""What is rendered: a request's picture, or a tile of a job."""


class Worker:
    """One worker. :meth:`run` serves until :meth:`stop` is called.

    Args:
        redis: from :func:`service.queue.connect`.
        catalog: where models are found by their digest.
        load: makes a renderer of a checkpoint.
        store: where the tiles of jobs go.
        device: what it renders on, for those who look at the workers.
        batch_limit: most pictures that are rendered together.
        model_bytes: memory that loaded models may take (:class:`service.loaded_models.LoadedModels`).
        patience: seconds without a heartbeat after which a worker counts as dead; all workers need the same.
        encode: makes a file of a picture.
    """

    def __init__(
        self,
        redis: "Redis",
        catalog: Catalog,
        load: Load,
        store: Store,
        *,
        device: str,
        batch_limit: int,
        model_bytes: int = CPU_BYTES,
        patience: float = PATIENCE,
        encode: Callable[[Picture, Encoding], bytes] = encode,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self._device = device
        self._batch_limit = batch_limit
        self._beat_seconds = patience / BEATS
        self._encode = encode
        self._consumer = Consumer(redis, self.id, patience)
        self._catalog = catalog
        self._rendering = Rendering(catalog, load, model_bytes)
        self._came_round = time.monotonic()
        self._stopping = asyncio.Event()
        self._answering: asyncio.Task[None] | None = None
        self._next_look = 0.0
        self._encoders = ThreadPoolExecutor(thread_name_prefix="encode")
        self._tiles = TileWork(redis, store, lambda task: self._consumer.release([task]), self.id, self._encoders)

    def stop(self) -> None:
        """Takes no further requests. :meth:`run` returns once those that are held have been answered."""
        self._stopping.set()

    @property
    def trouble(self) -> str | None:
        """What hangs, if anything does; one that waits for Redis or draws a large picture does not. For any thread."""
        if time.monotonic() - self._came_round > HUNG_SECONDS:
            return f"the event loop has not come round for {HUNG_SECONDS:g} s"
        if self._rendering.hangs:
            return "a batch takes longer to draw than any should"
        return None

    async def run(self) -> None:
        """Serves requests. Outlives Redis: waits until it is back, and begins anew with an empty one."""
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(work()) for work in (self._beat, self._sweep, self._watch_models)]
                await self._serve_until_stopped()
                await self._answered()
                await self._tiles.stop()
                for task in background:
                    await stop_task(task)
        finally:
            self._rendering.shutdown()
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
            self._next_look = time.monotonic() + self._beat_seconds
        await self._serve(await self._consumer.take(self._budgets()))

    def _budgets(self) -> dict[str, Budget]:
        """Tiles are taken for half a second's work, since a picture that comes meanwhile has to wait for them. Whose
        they are shows only when they have been taken: they may all be of the slowest model."""
        tiles = round(TILE_SECONDS * min(self._rendering.rates.values(), default=0.0))
        pictures = Budget(self._batch_limit, BATCH_PIXELS)
        return {
            PICTURES: pictures,
            BATCH: pictures,
            TILES: Budget(MAX_TILES, min(max(tiles, 1), BATCH_PIXELS)),
        }

    async def _serve(self, batch: Sequence[Taken]) -> None:
        """Renders a batch and leaves its answers to a task. Returns when nothing else waits to be answered."""
        try:
            wanted = await self._wanted(batch)
        except RedisError:
            self._consumer.release(batch)
            raise
        for model in _by_model(wanted):
            now = time.time()
            requests = [item.request for item in model if isinstance(item, Delivery)]
            for request in requests:
                metrics.QUEUE_WAIT.observe(max(now - request.submitted, 0.0))
            metrics.RENDER_BATCH_SIZE.observe(len(model))
            started = time.perf_counter()
            pictures = await self._rendering.render([_spec(item) for item in model], list(map(_log_fields, model)))
            seconds = time.perf_counter() - started
            for request in requests:
                record_span("queue", request.traceparent, min(request.submitted, now), now)
                record_span("render", request.traceparent, now, now + seconds, batch_size=len(model))
            await self._answered()
            self._answering = asyncio.create_task(self._answer(model, pictures, seconds))

    async def _answered(self) -> None:
        if self._answering:
            await self._answering
            self._answering = None

    async def _wanted(self, batch: Sequence[Taken]) -> list[Item]:
        """What of a batch is to be rendered."""
        tasks = [taken for taken in batch if isinstance(taken, TileTask)]
        tiles = await self._tiles.wanted(tasks) if tasks else []
        requests = [taken for taken in batch if isinstance(taken, Delivery)]
        return [*(await self._wanted_requests(requests)), *tiles]

    async def _wanted_requests(self, batch: Sequence[Delivery]) -> list[Delivery]:
        wanted = []
        for delivery in batch:
            if delivery.cancelled:
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

    async def _answer(self, batch: Sequence[Item], pictures: Sequence[Picture | RenderFailed], seconds: float) -> None:
        await asyncio.gather(*(self._end(*ended, seconds) for ended in zip(batch, pictures, strict=True)))

    async def _end(self, item: Item, picture: Picture | RenderFailed, seconds: float) -> None:
        with log_context(**_log_fields(item)):
            if isinstance(item, Delivery):
                await self._answer_one(item, picture, seconds)
            else:
                await self._keep(item, picture)

    async def _keep(self, tile: Tile, picture: Picture | RenderFailed) -> None:
        if isinstance(picture, RenderFailed):
            self._tiles.failed(tile.task, str(picture), final=picture.kind == "invalid")
        else:
            await self._tiles.keep(tile, picture)

    async def _answer_one(self, delivery: Delivery, picture: Picture | RenderFailed, seconds: float) -> None:
        request = delivery.request
        if request.deadline < time.time():
            await self._drop(delivery, "deadline")
            return
        if isinstance(picture, RenderFailed):
            fields = failure_fields(picture)
        else:
            loop, context = asyncio.get_running_loop(), contextvars.copy_context()
            fields = await loop.run_in_executor(
                self._encoders, context.run, self._encode_picture, picture, request, seconds
            )
        try:
            await self._consumer.answer(delivery, fields)
        except RedisError as error:
            logger.warning("request %s could not be answered: %s", request.id, error)

    def _encode_picture(self, picture: Picture, request: Request, render_seconds: float) -> dict[str, Any]:
        """In an encoding thread: the reply's fields."""
        encoding = request.spec.encoding
        now, started = time.time(), time.perf_counter()
        try:
            content = self._encode(picture, encoding)
        except Exception as error:
            return failure_fields(failure(error))
        seconds = time.perf_counter() - started
        metrics.ENCODE_DURATION.labels(encoding.format).observe(seconds)
        record_span("encode", request.traceparent, now, now + seconds, format=encoding.format, bytes=len(content))
        return success_fields(content, render_seconds, seconds)

    def _info(self, state: WorkerState) -> WorkerInfo:
        return WorkerInfo(self.id, self._device, state, self._rendering.models, self._rendering.rates)

    async def _beat(self) -> None:
        while True:
            self._came_round = time.monotonic()
            state: WorkerState = "busy" if self._consumer.busy else "idle"
            if self._stopping.is_set():
                state = "stopping"
            with contextlib.suppress(RedisError):  # what serves will tell of it
                await self._consumer.beat(self._info(state))
            await asyncio.sleep(self._beat_seconds)

    async def _sweep(self) -> None:
        """Apart from the heartbeat, which must not wait for it."""
        while True:
            with contextlib.suppress(RedisError):
                await self._consumer.sweep()
            await asyncio.sleep(self._beat_seconds)

    async def _watch_models(self) -> None:
        """Reads new files before anybody asks for them, and frees the memory of models that are gone."""
        while True:
            served = {checkpoint.digest for checkpoint in await asyncio.to_thread(self._catalog.models)}
            await self._rendering.unload_all_but(served)
            await asyncio.sleep(LOOK_SECONDS)


def _by_model(items: Sequence[Item]) -> list[list[Item]]:
    """One batch for each model, in the order of their first items."""
    batches: dict[str, list[Item]] = {}
    for item in items:
        batches.setdefault(_spec(item).model, []).append(item)
    return list(batches.values())


def _spec(item: Item) -> RenderSpec:
    return item.request.spec if isinstance(item, Delivery) else item.spec


def _log_fields(item: Item) -> Mapping[str, str]:
    """What messages about an item say."""
    return item.request.context if isinstance(item, Delivery) else {"job": item.task.job}
