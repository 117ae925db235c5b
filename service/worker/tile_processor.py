"""The workers' side of jobs: selects tiles and groups of frames to render, stores them, assembles the files of jobs."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar

import obstore
from numpy.typing import NDArray
from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.errors import InputError
from model.spec import RenderSpec
from service.imaging.assemble import assemble
from service.imaging.export_spec import ExportSpec
from service.imaging.object_store import STORE_ERRORS, Store, delete_folder, describe, exists, put_once
from service.imaging.order import Order, read_order
from service.imaging.tile_encoding import encode_tile
from service.imaging.video import join_groups
from service.imaging.video_spec import VideoSpec
from service.jobs import records
from service.jobs.job import FOLDER
from service.jobs.status import UNFINISHED
from service.jobs.tile_tasks import TileTask, TileTasks
from service.queue.messages import RenderFailed
from service.runtime import worker_metrics as metrics
from service.runtime.logs import log_context
from service.runtime.redis_keys import job_key
from service.worker.group_renderer import GroupRenderer, UnwantedError
from service.worker.render_executor import DeviceLostError

logger = logging.getLogger(__name__)

MAX_TRIES = 5
"""Failures of one tile after which its job fails."""

RETRY_SECONDS = 1.0
"""Delay before the second try, doubled from one to the next: a store has half a minute to recover."""

PROGRESS_SECONDS = 0.5
"""Between two updates of a job's progress while its file is assembled."""

ENDED_SECONDS = 0.5
"""Between two looks whether the job of a group that is being rendered has ended."""

Result = TypeVar("Result")

_parse_order = lru_cache(maxsize=64)(read_order)


class StoppedError(Exception):
    """The worker stops, or the job has ended, before its file is assembled."""


@dataclass
class Tile:
    """A tile to render. ``ended``: its job has failed or was cancelled, as far as is known."""

    task: TileTask
    export: ExportSpec
    ended: bool = False

    @property
    def spec(self) -> RenderSpec:
        return self.export.tile_spec(self.task.tile)

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.task.job}/{self.export.tile_name(self.task.tile)}"

    @property
    def log_fields(self) -> Mapping[str, str]:
        return {"job": self.task.job}

    def is_wanted(self) -> bool:
        return not self.ended


@dataclass
class Group:
    """A group of frames to render, as :class:`Tile`."""

    task: TileTask
    video: VideoSpec
    ended: bool = False


class TileProcessor:
    """Everything about tiles but rendering them, and everything about groups of frames, which are rendered between
    images. Calls ``release`` with each task that this worker no longer holds. Once ``stopping`` is set, it leaves what
    is not finished to other workers."""

    def __init__(
        self,
        redis: "Redis",
        store: Store,
        release: Callable[[TileTask], None],
        worker: str,
        encoders: Executor,
        groups: GroupRenderer,
        stopping: asyncio.Event,
    ) -> None:
        self._redis = redis
        self._store = store
        self._release = release
        self._worker = worker
        self._encoders = encoders
        self._groups = groups
        self._held_groups = 0
        self._turn = asyncio.Lock()
        self._tasks = TileTasks(redis)
        self._background: set[asyncio.Task[None]] = set()
        self._assembler = ThreadPoolExecutor(1, thread_name_prefix="assemble")
        self._stopping = stopping

    @property
    def has_groups(self) -> bool:
        """Whether groups of frames are being rendered: no further tiles should be taken."""
        return self._held_groups > 0

    async def select(self, tasks: Sequence[TileTask]) -> list[Tile]:
        """The tiles that must be rendered. All other tasks are settled here or in the background. If it raises
        redis.exceptions.RedisError, no task was settled."""
        orders = await self._orders({task.job for task in tasks})
        tiles: list[Tile] = []
        for task in tasks:
            if (order := orders[task.job]) is None:
                await self._drop(task)
            elif (export := _read_order(task.job, order)) is None:
                self.fail(task, "the worker cannot read the order; its log tells why", final=True)
            elif task.tile >= export.tiles:
                with log_context(job=task.job):
                    self._start(self._assemble(task, export))
            elif isinstance(export, VideoSpec):
                self._held_groups += 1
                with log_context(job=task.job):
                    self._start(self._render_group(Group(task, export)))
            else:
                tiles.append(Tile(task, export))
        stored = await asyncio.gather(*(exists(self._store, tile.path) for tile in tiles), return_exceptions=True)
        for tile, is_stored in zip(tiles, stored, strict=True):
            if is_stored is True:
                metrics.TILES.labels("found").inc()
                await self._settle(tile.task, tile.path)
        # Where the store fails to answer, the tile is rendered: by then, writing may work.
        return [tile for tile, is_stored in zip(tiles, stored, strict=True) if is_stored is not True]

    async def look_for_ended(self, tiles: Sequence[Tile | Group]) -> None:
        """Updates ``ended`` of tiles that are being rendered."""
        orders = await self._orders({tile.task.job for tile in tiles})
        for tile in tiles:
            tile.ended = tile.ended or orders[tile.task.job] is None

    async def save(self, tile: Tile, image: NDArray[Any]) -> None:
        """Encodes a rendered tile, stores it and settles its task."""
        if not tile.is_wanted():
            await self._drop(tile.task)
            return
        loop = asyncio.get_running_loop()
        try:
            content = await loop.run_in_executor(self._encoders, encode_tile, tile.export, tile.task.tile, image)
            await put_once(self._store, tile.path, content)
        except STORE_ERRORS as error:
            self.fail(tile.task, describe(error))
            return
        except Exception as error:
            logger.exception("tile %d of job %s cannot be encoded", tile.task.tile, tile.task.job)
            self.fail(tile.task, f"a tile cannot be encoded: {type(error).__name__}")
            return
        metrics.TILES.labels("drawn").inc()
        await self._settle(tile.task, tile.path)

    def fail(self, task: TileTask, reason: str, *, final: bool = False) -> None:
        """Retries a task after a delay. After MAX_TRIES, or where the failure is final, its job fails."""
        metrics.TILES.labels("failed").inc()
        self._start(self._retry(task, reason, MAX_TRIES if final else task.tries + 1))

    async def stop(self) -> None:
        """Returns once every task has been settled or left."""
        self._stopping.set()
        while self._background:
            await asyncio.wait(self._background)
        self._assembler.shutdown()

    async def _orders(self, jobs: set[str]) -> dict[str, bytes | None]:
        """The orders of jobs; None for those that have ended."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.hmget(job_key(job), "state", "order")
            answers: list[Any] = await pipeline.execute()
        unfinished = {state.encode() for state in UNFINISHED}
        return {job: order if state in unfinished else None for job, (state, order) in zip(jobs, answers, strict=True)}

    async def _render_group(self, group: Group) -> None:
        """Renders, encodes and stores a group while the worker goes on with images. One group at a time."""
        task, video = group.task, group.video
        folder = f"{FOLDER}/{task.job}"
        path = f"{folder}/{video.tile_name(task.tile)}"
        watching = asyncio.ensure_future(self._watch(group))
        try:
            async with self._turn:
                found = await exists(self._store, path)
                if not found:
                    await self._groups.render(video, task.tile, folder, self._wants(group), {"job": task.job})
        except UnwantedError:
            await self._end(task, self._tasks.retry(task, task.tries))
        except DeviceLostError:
            self._release(task)  # the worker ends
        except (RenderFailed, InputError) as error:
            final = isinstance(error, InputError) or error.kind == "invalid"
            self.fail(task, str(error), final=final)
        except STORE_ERRORS as error:
            self.fail(task, describe(error))
        except Exception as error:
            logger.exception("group %d of job %s cannot be encoded", task.tile, task.job)
            self.fail(task, f"frames cannot be encoded: {type(error).__name__}")
        else:
            metrics.TILES.labels("found" if found else "drawn").inc()
            await self._settle(task, path)
        finally:
            watching.cancel()
            self._held_groups -= 1

    def _wants(self, group: Group) -> Callable[[], bool]:
        return lambda: not group.ended and not self._stopping.is_set()

    async def _watch(self, group: Group) -> None:
        while True:
            await asyncio.sleep(ENDED_SECONDS)
            with contextlib.suppress(RedisError):
                await self.look_for_ended([group])

    async def _assemble(self, task: TileTask, export: Order) -> None:
        """Makes the job's file in a thread, while the worker goes on with tiles."""
        folder = f"{FOLDER}/{task.job}"
        path = f"{folder}/{export.name}"
        try:
            if not await exists(self._store, path):
                logger.info("job %s: its %s is being assembled", task.job, export.kind)
                await records.remove_half_written(self._store, path)
                # A descriptor is small and does not wait for large files.
                executor = self._encoders if export.kind == "dzi" else self._assembler
                loop = asyncio.get_running_loop()
                write = partial(join_groups, export) if isinstance(export, VideoSpec) else partial(assemble, export)
                await loop.run_in_executor(executor, write, self._store, folder, self._progress(task))
            if export.kind != "dzi":
                await delete_folder(self._store, f"{folder}/tiles")
        except StoppedError:
            await self._end(task, self._tasks.retry(task, task.tries))
        except STORE_ERRORS as error:
            self.fail(task, describe(error))
        except Exception as error:
            logger.exception("job %s cannot be assembled", task.job)
            self.fail(task, f"the file cannot be finished: {type(error).__name__}")
        else:
            await self._settle(task, path)

    def _progress(self, task: TileTask) -> Callable[[int], None]:
        """A callback for the assembling thread: takes the number of added tiles, raises StoppedError."""
        loop = asyncio.get_running_loop()
        count, updated, needed = 0, time.monotonic(), True

        async def update(tiles: int) -> None:
            nonlocal needed
            with contextlib.suppress(RedisError):
                needed = await self._tasks.advance(task, tiles)

        def advance(tiles: int) -> None:
            nonlocal count, updated
            if self._stopping.is_set() or not needed:
                raise StoppedError
            count += tiles
            if time.monotonic() - updated > PROGRESS_SECONDS:
                updated = time.monotonic()
                loop.call_soon_threadsafe(self._start, update(count))

        return advance

    async def _drop(self, task: TileTask) -> None:
        """Settles the task of a job that has ended."""
        await self._end(task, self._tasks.retry(task, task.tries))
        metrics.TILES.labels("dropped").inc()

    async def _retry(self, task: TileTask, reason: str, tries: int) -> None:
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
        """Settles a task whose object is stored. The object is deleted again where the job has failed or was cancelled:
        its other files may have been removed already."""
        if await self._end(task, self._tasks.settle(task)) is False:
            with contextlib.suppress(*STORE_ERRORS):  # then the reconciler removes it
                await obstore.delete_async(self._store, path)

    async def _end(self, task: TileTask, change: Awaitable[Result]) -> Result | None:
        """Makes the last change to a task and releases it. Where Redis fails, the task is delivered again."""
        try:
            return await change
        except RedisError as error:
            logger.warning("a tile's task comes again, as the queue cannot be reached: %s", error)
            return None
        finally:
            self._release(task)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        background = asyncio.ensure_future(work)
        self._background.add(background)
        background.add_done_callback(self._background.discard)


def _read_order(job: str, text: bytes) -> Order | None:
    try:
        return _parse_order(text)
    except (ValueError, KeyError, TypeError) as error:  # perhaps a newer gateway wrote it
        logger.error("the order of job %s cannot be read: %r", job, error)
        return None
