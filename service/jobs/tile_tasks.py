"""One tile of a job as an entry of the queue, and the ways to settle it."""

from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis

from service.runtime.redis import register_script
from service.runtime.redis_keys import TILES


@dataclass(frozen=True)
class TileTask:
    """An entry of the queue: a tile to be rendered or, if ``tile`` is the number of tiles, a file to be assembled.

    ``tries`` is how often workers have failed to render or store it.
    """

    entry: bytes
    job: str
    tile: int
    tries: int

    stream = TILES

    @classmethod
    def from_fields(cls, entry: bytes, fields: Mapping[bytes, bytes]) -> "TileTask":
        """Raises ValueError or KeyError for fields that queue_tile in lua/common.lua did not write."""
        return cls(entry, fields[b"job"].decode(), int(fields[b"tile"]), int(fields[b"tries"]))


class TileTasks:
    """Settles tasks. Every method may raise redis.exceptions.RedisError: the task is then delivered again."""

    def __init__(self, redis: "Redis") -> None:
        self._take, self._settle, self._retry, self._fail, self._advance = (
            register_script(redis, "service.jobs", "common", name)
            for name in ("take", "settle", "retry", "fail", "advance")
        )

    async def take(self, worker: str, tiles: int, pixels: int) -> list[tuple[bytes, list[bytes]]]:
        """Queues tiles of the job that has had the least, and delivers them to a worker: entries and their fields, a
        flat list. No more than ``tiles``, and none after the sum of their pixels has reached ``pixels``."""
        entries: list[tuple[bytes, list[bytes]]] = await self._take(args=[worker, tiles, pixels])
        return entries

    async def settle(self, task: TileTask) -> bool:
        """Notes that the tile is stored, and queues the assembly after the last. False where the job has failed or was
        cancelled."""
        return bool(await self._settle(args=[task.job, task.entry, task.tile]))

    async def retry(self, task: TileTask, tries: int) -> None:
        """Moves the task to the end of the queue; drops it where its job has ended."""
        await self._retry(args=[task.job, task.entry, task.tile, tries])

    async def fail(self, task: TileTask, reason: str, worker: str) -> None:
        """Moves the task to the dead letters and fails its job."""
        await self._fail(args=[task.job, task.entry, reason, task.tile, task.tries, worker])

    async def advance(self, task: TileTask, tiles: int) -> bool:
        """Notes how many tiles the assembled file has so far. False where the job has ended."""
        return bool(await self._advance(args=[task.job, tiles]))
