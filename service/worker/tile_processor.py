"""The workers' side of jobs: which tiles are worth drawing, and where drawn ones go."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import obstore
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.spec import RenderSpec
from service import metrics
from service.jobs import storage
from service.jobs.job import FOLDER
from service.jobs.task import Tasks, TileTask
from service.logs import log_context
from service.outputs.finish import finish
from service.outputs.order import Order
from service.outputs.store import STORE_ERRORS, Store, delete_folder, describe, exists, put_once
from service.outputs.tiles import encode_tile

logger = logging.getLogger(__name__)

MAX_TRIES = 5
"""Failures of one tile after which its job fails."""

RETRY_SECONDS = 1.0
"""Before a failed tile is tried again; twice as long before the next time, so that a store has half a minute."""

PROGRESS_SECONDS = 0.5
"""Between two notes of how far a file is."""

_ORDERS_KEPT = 64

Result = TypeVar("Result")


class StoppedError(Exception):
    """The worker, or the job, ends before the file is finished."""


@dataclass(frozen=True)
class Tile:
    """A tile that is to be drawn."""

    task: TileTask
    order: Order

    @property
    def spec(self) -> RenderSpec:
        return self.order.tile_spec(self.task.tile)

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.task.job}/{self.order.tile_name(self.task.tile)}"


class TileWork:
    """Does all for tiles but drawing them.

    Args:
        release: is called with each task that this worker no longer holds.
        worker: the worker's id.
        encoders: threads that encode.
    """

    def __init__(
        self, redis: "Redis", store: Store, release: Callable[[TileTask], None], worker: str, encoders: Executor
    ) -> None:
        self._redis = redis
        self._store = store
        self._release = release
        self._worker = worker
        self._encoders = encoders
        self._tasks = Tasks(redis)
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._background: set[asyncio.Task[None]] = set()
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="finish")
        self._stopping = asyncio.Event()

    async def wanted(self, tasks: Sequence[TileTask]) -> list[Tile]:
        """Those tiles that are not in the store yet. All other tasks are ended here, or go on in the background."""
        try:
            alive = await self._alive([task.job for task in tasks])
        except RedisError:
            for task in tasks:  # they come again
                self._release(task)
            raise
        tiles: list[Tile] = []
        for task in tasks:
            if task.job not in alive:
                await self._end(task, self._tasks.drop(task))
                metrics.TILES.labels("dropped").inc()
            elif (order := alive[task.job]) is None:
                self.failed(task, "the worker cannot read the order; its log tells why", final=True)
            elif task.tile >= order.pyramid.tiles:
                with log_context(job=task.job):
                    self._start(self._finish(task, order))
            else:
                tiles.append(Tile(task, order))
        drawn = await asyncio.gather(*(exists(self._store, tile.path) for tile in tiles), return_exceptions=True)
        for tile, is_drawn in zip(tiles, drawn, strict=True):
            if is_drawn is True:
                metrics.TILES.labels("found").inc()
                await self._settle(tile.task, tile.path)
        # Where the store does not answer, the tile is drawn: to keep it may work.
        return [tile for tile, is_drawn in zip(tiles, drawn, strict=True) if is_drawn is not True]

    async def keep(self, tile: Tile, picture: NDArray[np.uint8]) -> None:
        """Encodes a drawn tile, puts it into the store and settles its task."""
        loop = asyncio.get_running_loop()
        try:
            content = await loop.run_in_executor(self._encoders, encode_tile, tile.order, picture)
            await put_once(self._store, tile.path, content)
        except STORE_ERRORS as error:
            self.failed(tile.task, describe(error))
            return
        except Exception as error:
            logger.exception("tile %d of job %s cannot be encoded", tile.task.tile, tile.task.job)
            self.failed(tile.task, f"a tile cannot be encoded: {type(error).__name__}")
            return
        metrics.TILES.labels("drawn").inc()
        await self._settle(tile.task, tile.path)

    def failed(self, task: TileTask, reason: str, *, final: bool = False) -> None:
        """Has a task tried again after a while; its job fails with the reason after MAX_TRIES, or if this is final."""
        metrics.TILES.labels("failed").inc()
        self._start(self._try_again(task, reason, MAX_TRIES if final else task.tries + 1))

    async def stop(self) -> None:
        """Leaves what is not finished to other workers."""
        self._stopping.set()
        while self._background:
            await asyncio.wait(self._background)
        self._finisher.shutdown()

    async def _alive(self, ids: Sequence[str]) -> dict[str, Order | None]:
        """The orders of those jobs that have not ended. None: it cannot be read, as that of a newer gateway."""
        unique = list(dict.fromkeys(ids))
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job in unique:
                pipeline.hget(f"creps:job:{job}", "state")
                if job not in self._orders:
                    pipeline.hget(f"creps:job:{job}", "order")
            answers: list[Any] = await pipeline.execute()
        alive: dict[str, Order | None] = {}
        replies = iter(answers)
        for job in unique:
            state = next(replies)
            text = None if job in self._orders else next(replies)
            if state in (b"queued", b"running"):
                alive[job] = self._orders[job] if text is None else self._read(job, text)
        while len(self._orders) > _ORDERS_KEPT:
            self._orders.popitem(last=False)
        return alive

    def _read(self, job: str, text: bytes) -> Order | None:
        try:
            self._orders[job] = Order.from_json(text)
        except (ValueError, KeyError, TypeError) as error:
            logger.error("the order of job %s cannot be read: %r", job, error)
            return None
        return self._orders[job]

    async def _finish(self, task: TileTask, order: Order) -> None:
        """Makes the job's file in a thread, while the worker goes on with tiles."""
        folder = f"{FOLDER}/{task.job}"
        path = f"{folder}/{order.name}"
        try:
            if not await exists(self._store, path):
                logger.info("job %s: its %s is being finished", task.job, order.kind)
                await storage.remove_half_written(self._store, path)
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._finisher, finish, order, self._store, folder, self._progress(task))
            if order.kind != "dzi":
                await delete_folder(self._store, f"{folder}/tiles")
        except StoppedError:
            await self._end(task, self._tasks.retry(task, task.tries))
        except STORE_ERRORS as error:
            self.failed(task, describe(error))
        except Exception as error:
            logger.exception("job %s cannot be finished", task.job)
            self.failed(task, f"the file cannot be finished: {type(error).__name__}")
        else:
            await self._settle(task, path)

    def _progress(self, task: TileTask) -> Callable[[int], None]:
        """Notes how many tiles are in the file, now and then. Called in the finisher's thread."""
        loop = asyncio.get_running_loop()
        count, told, wanted = 0, time.monotonic(), True

        async def note(tiles: int) -> None:
            nonlocal wanted
            wanted = await self._end(None, self._tasks.advance(task, tiles)) is not False

        def advance(tiles: int) -> None:
            nonlocal count, told
            if self._stopping.is_set() or not wanted:
                raise StoppedError
            count += tiles
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                loop.call_soon_threadsafe(self._start, note(count))

        return advance

    async def _try_again(self, task: TileTask, reason: str, tries: int) -> None:
        if tries >= MAX_TRIES:
            logger.error("job %s fails at tile %d: %s", task.job, task.tile, reason)
            metrics.DEAD_LETTERS.inc()
            await self._end(task, self._tasks.fail(task, reason, self._worker))
            return
        seconds = RETRY_SECONDS * 2**task.tries
        logger.warning("tile %d of job %s is tried again in %g s: %s", task.tile, task.job, seconds, reason)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        await self._end(task, self._tasks.retry(task, tries))

    async def _settle(self, task: TileTask, path: str) -> None:
        """Ends a task whose object is in the store. It is deleted where the job was cancelled or has failed: its other
        files may be gone already."""
        if await self._end(task, self._tasks.settle(task)) is False:
            with contextlib.suppress(*STORE_ERRORS):  # then the keeper finds it in time
                await obstore.delete_async(self._store, path)

    async def _end(self, task: TileTask | None, change: Awaitable[Result]) -> Result | None:
        """Makes a change in Redis, after which the task is no longer held. Where that fails the task comes again."""
        try:
            return await change
        except RedisError as error:
            logger.warning("a tile's task comes again, as the queue cannot be reached: %s", error)
            return None
        finally:
            if task is not None:
                self._release(task)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        background = asyncio.ensure_future(work)
        self._background.add(background)
        background.add_done_callback(self._background.discard)
