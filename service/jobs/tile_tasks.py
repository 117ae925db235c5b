"""One tile of a job as an entry of the queue, and what can become of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from service.jobs import scripts


@dataclass(frozen=True)
class TileTask:
    """A tile that a job waits for.

    Attributes:
        entry: its place in the queue.
        job: the job's id.
        tile: the tile's index; the number of tiles where the job's file is to be finished.
        tries: how often a worker has failed with it.
    """

    entry: bytes
    job: str
    tile: int
    tries: int

    @classmethod
    def from_fields(cls, entry: bytes, fields: Mapping[bytes, bytes]) -> "TileTask":
        """Raises ValueError or KeyError for what scripts.py did not write."""
        return cls(entry, fields[b"job"].decode(), int(fields[b"tile"]), int(fields[b"tries"]))


class Tasks:
    """Ends tasks, each in one step. Every method may raise redis.exceptions.RedisError: then the task comes again."""

    def __init__(self, redis: "Redis") -> None:
        self._settle = redis.register_script(scripts.SETTLE)
        self._retry = redis.register_script(scripts.RETRY)
        self._drop = redis.register_script(scripts.DROP)
        self._fail = redis.register_script(scripts.FAIL)
        self._advance = redis.register_script(scripts.ADVANCE)

    async def settle(self, task: TileTask) -> bool:
        """Notes that the tile is in the store, and queues what comes next. False where the job does not want it."""
        return bool(await self._settle(args=[task.job, task.entry, task.tile]))

    async def retry(self, task: TileTask, tries: int) -> None:
        """Queues the task again, behind the others; of a job that has ended it is dropped."""
        await self._retry(args=[task.job, task.entry, task.tile, tries])

    async def drop(self, task: TileTask) -> None:
        """Takes the task of a job that has ended out of the queue."""
        await self._drop(args=[task.job, task.entry])

    async def fail(self, task: TileTask, reason: str, worker: str) -> None:
        """Moves the task to the dead letters and ends its job with the reason."""
        arguments: list[Any] = [task.job, task.entry, reason, task.tile, task.tries, worker]
        await self._fail(args=arguments)

    async def advance(self, task: TileTask, tiles: int) -> bool:
        """Notes how many tiles are in the file that is being finished. False where the job has ended."""
        return bool(await self._advance(args=[task.job, tiles]))
