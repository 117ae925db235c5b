"""The worker: reads requests and tiles from the queue, renders those of one model together, encodes, replies or stores.

While one batch is encoded, the next is rendered, and shortly before it is ready the one after that is read. Other
workers claim what a worker holds when it is killed.
"""

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.util.cpus import available_cpus
from service.imaging.metadata import encode_image
from service.imaging.object_store import Store
from service.imaging.video import has_pyav
from service.jobs.tile_tasks import TileTask
from service.models.catalog import Catalog
from service.queue.consumer import HEARTBEAT_TIMEOUT, Consumer, QueuedRender, QueueEntry
from service.queue.messages import RenderFailed, WorkerInfo, WorkerState
from service.runtime import worker_metrics as metrics
from service.runtime.logs import log_context
from service.runtime.redis import stop_task
from service.runtime.tracing import record_span
from service.worker.batch_reader import BatchReader
from service.worker.direction_finder import DirectionFinder
from service.worker.group_renderer import GroupRenderer
from service.worker.model_cache import CPU_BYTES, Load, ModelCache
from service.worker.projection_runner import ProjectionRunner
from service.worker.render_executor import DeviceLostError, Outcome, Outcomes, RenderExecutor
from service.worker.responder import Encode, Responder
from service.worker.tile_processor import Tile, TileProcessor

logger = logging.getLogger(__name__)

CPU_BATCH, GPU_BATCH = 8, 32
"""Default limits of images in a batch, which takes what waits. Its first image waits for its last: long, on a CPU."""

BEATS = 4
"""Heartbeats, and searches for dead workers, within the heartbeat timeout."""

WANTED_SECONDS = 0.5
"""Between two looks whether what is being rendered is still wanted."""

REFRESH_SECONDS = 2.0
"""Between two checks whether the loaded models are still served."""

STALL_TIMEOUT = 60.0
"""Seconds after which a blocked event loop counts as stalled. Everything that it waits for, Redis too, ends sooner."""

ENCODERS = available_cpus() + 4
"""Encoding threads: more than one per CPU, so that a few large images do not hold up small ones."""

MIN_PAUSE, MAX_PAUSE = 0.1, 5.0
"""Seconds between attempts to reach Redis, doubled from one to the next."""

WorkItem = QueuedRender | Tile
"""What is rendered: the image of a request, or a tile of a job."""


class Worker:
    """One worker. :meth:`run` serves until :meth:`stop` is called.

    ``synchronize`` waits for the device, and raises an exception if the device is lost.
    After ``heartbeat_timeout`` seconds without a heartbeat a worker counts as dead; it is the same for all workers.
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
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
        synchronize: Callable[[], object] = lambda: None,
        encode: Encode = encode_image,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self._device = device
        self._beat_seconds = heartbeat_timeout / BEATS
        self._consumer = Consumer(redis, self.id, heartbeat_timeout)
        self._catalog = catalog
        self._models = ModelCache(catalog, load, model_bytes)
        self._executor = RenderExecutor(self._models, synchronize)
        self._last_beat = math.inf
        self._stopping = asyncio.Event()
        self._device_lost: DeviceLostError | None = None
        self._finishing: asyncio.Task[None] | None = None
        self._encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="encode")
        self._directions = DirectionFinder(redis, catalog, store, self.id)
        self._projections = ProjectionRunner(redis, catalog, store)
        groups = GroupRenderer(self._executor, store, self._encoders)
        self._tiles = TileProcessor(
            redis, store, lambda task: self._consumer.release([task]), self.id, self._encoders, groups, self._stopping
        )
        self._reader = BatchReader(
            self._consumer, self._models, self._tiles, images=batch_limit, claim_seconds=self._beat_seconds
        )
        self._responder = Responder(self._consumer, encode, self._encoders, ENCODERS, self._models.arithmetics)

    def stop(self) -> None:
        """Reads no more from the queue. :meth:`run` returns when everything that is held has been answered."""
        self._stopping.set()

    @property
    def unhealthy_reason(self) -> str | None:
        """What has stalled, if anything. Waiting for Redis or rendering a large image is no stall. Thread-safe."""
        if time.monotonic() - self._last_beat > STALL_TIMEOUT:
            return f"the event loop has been blocked for {STALL_TIMEOUT:g} s"
        if self._executor.is_stalled:
            return "a batch takes longer to render than any should"
        if self._device_lost:
            return f"{self._device} is lost"
        return None

    async def run(self) -> None:
        """Loads the default model, then serves requests.

        While Redis is away, waits for it; joins an emptied Redis anew. Raises DeviceLostError once everything that was
        rendered has been answered. Other workers claim the rest.
        """
        try:
            await self._load_default()
            async with asyncio.TaskGroup() as tasks:
                works = (self._heartbeat, self._sweep, self._watch_models, self._directions.run, self._projections.run)
                background = [tasks.create_task(work()) for work in works]
                try:
                    await self._serve_until_stopped()
                except DeviceLostError as error:
                    self._device_lost = error
                    logger.critical("%s is lost, this worker ends: %s", self._device, error)
                    with contextlib.suppress(RedisError):
                        self._consumer.release(await self._reader.take_ahead())
                        await self._consumer.count_lost_device()
                await self._finished()
                await self._tiles.stop()
                for task in background:
                    await stop_task(task)
        finally:
            self._executor.shutdown()
            self._encoders.shutdown()
            with contextlib.suppress(RedisError):  # then others sweep it
                await self._consumer.leave()
        logger.info("worker %s has stopped", self.id)
        if self._device_lost:
            raise self._device_lost

    async def _load_default(self) -> None:
        """Until then the worker does not count as alive, so that the first request does not wait for the model."""
        if checkpoint := await asyncio.to_thread(self._catalog.default):
            await self._executor.load(checkpoint.digest)

    async def _serve_until_stopped(self) -> None:
        joined, pause = False, MIN_PAUSE
        while not self._stopping.is_set():
            if self._executor.lost is not None:  # noticed by a group of frames
                raise self._executor.lost
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
        with contextlib.suppress(RedisError):
            if batch := await self._reader.take_ahead():
                await self._serve(batch)

    async def _serve_once(self) -> None:
        """Serves the next batch. Returns after a short while where there is none."""
        batch = await self._reader.read()
        if batch.suspect:  # nothing else is held while it is rendered
            await self._finished()
        await self._serve(batch.entries)
        if batch.suspect:
            await self._finished()

    async def _serve(self, batch: Sequence[QueueEntry]) -> None:
        """Renders a batch, and leaves encoding to tasks. Returns when the batch before has been answered."""
        try:
            selected = await self._select(batch)
        except RedisError:
            self._consumer.release(batch)
            raise
        for items in _by_model(selected):
            now = time.time()
            requests = [item.request for item in items if isinstance(item, QueuedRender)]
            for request in requests:
                metrics.QUEUE_WAIT.observe(max(now - request.submitted, 0.0))
            metrics.RENDER_BATCH_SIZE.observe(len(items))
            started = time.perf_counter()
            if not self._stopping.is_set():
                self._reader.read_ahead(items)
            try:
                images = await (self._find_styles(items) if _wants_styles(items[0]) else self._render(items))
            except DeviceLostError:
                await self._finished()
                self._consumer.release(batch)
                raise
            seconds = time.perf_counter() - started
            for request in requests:
                record_span("queue", request.traceparent, min(request.submitted, now), now)
                record_span("render", request.traceparent, now, now + seconds, batch_size=len(items))
            await self._finished()
            self._finishing = asyncio.ensure_future(self._finish(list(zip(items, images, strict=True)), seconds))

    async def _select(self, batch: Sequence[QueueEntry]) -> list[WorkItem]:
        """The items of a batch that must be rendered. The others are dropped."""
        tasks = [item for item in batch if isinstance(item, TileTask)]
        tiles = await self._tiles.select(tasks) if tasks else []
        requests = [item for item in batch if isinstance(item, QueuedRender)]
        return [*await self._responder.drop_unwanted(requests), *tiles]

    async def _render(self, items: Sequence[WorkItem]) -> Outcomes:
        """Renders items of one model, and looks meanwhile whether clients have gone, or jobs have ended."""
        rendering = asyncio.ensure_future(
            self._executor.render(
                [item.spec for item in items], [item.log_fields for item in items], [item.is_wanted for item in items]
            )
        )
        requests = [item for item in items if isinstance(item, QueuedRender)]
        tiles = [item for item in items if isinstance(item, Tile)]
        while not (await asyncio.wait([rendering], timeout=WANTED_SECONDS))[0]:
            with contextlib.suppress(RedisError):
                if requests:
                    await self._consumer.look_for_cancelled(requests)
                if tiles:
                    await self._tiles.look_for_ended(tiles)
        return await rendering

    async def _find_styles(self, items: Sequence[WorkItem]) -> Outcomes:
        return await self._executor.styles([item.spec for item in items], [item.log_fields for item in items])

    async def _finished(self) -> None:
        """Waits until the batch before has been answered."""
        if self._finishing:
            await self._finishing
            self._finishing = None

    async def _finish(self, rendered: Sequence[tuple[WorkItem, Outcome]], seconds: float) -> None:
        """Encodes a batch that was rendered in ``seconds``; replies, or stores tiles."""
        requests = [(item, image) for item, image in rendered if isinstance(item, QueuedRender)]
        tiles = [(item, image) for item, image in rendered if isinstance(item, Tile)]
        if tiles:
            await asyncio.gather(*(self._finish_tile(*tile) for tile in tiles))
        await self._responder.reply(requests, seconds)

    async def _finish_tile(self, tile: Tile, image: Outcome) -> None:
        with log_context(**tile.log_fields):
            if isinstance(image, RenderFailed):
                self._tiles.fail(tile.task, str(image), final=image.kind == "invalid")
            else:
                await self._tiles.save(tile, image)

    async def _heartbeat(self) -> None:
        while True:
            self._last_beat = time.monotonic()
            state: WorkerState = "stopping" if self._stopping.is_set() else "busy" if self._consumer.busy else "idle"
            info = WorkerInfo(self.id, self._device, state, self._models.digests, self._models.rates, has_pyav())
            with contextlib.suppress(RedisError):  # _serve_until_stopped logs it
                await self._consumer.heartbeat(info)
            await asyncio.sleep(self._beat_seconds)

    async def _sweep(self) -> None:
        """A task of its own, since the heartbeat must not wait for it."""
        while True:
            with contextlib.suppress(RedisError):
                await self._consumer.sweep()
            await asyncio.sleep(self._beat_seconds)

    async def _watch_models(self) -> None:
        """Reads new checkpoint files before they are needed, and unloads models that are gone."""
        while True:
            served = {checkpoint.digest for checkpoint in await asyncio.to_thread(self._catalog.models)}
            await self._executor.evict_all_but(served)
            await asyncio.sleep(REFRESH_SECONDS)


def _by_model(items: Sequence[WorkItem]) -> list[list[WorkItem]]:
    """One batch for each model and for images or styles, in the order of their first items."""
    batches: dict[tuple[str, bool], list[WorkItem]] = {}
    for item in items:
        batches.setdefault((item.spec.model, _wants_styles(item)), []).append(item)
    return list(batches.values())


def _wants_styles(item: WorkItem) -> bool:
    return isinstance(item, QueuedRender) and item.request.wanted == "styles"
