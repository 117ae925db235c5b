"""Keeps object store and Redis in step: jobs that Redis lost go on, files that nobody wants go, old jobs end.

Every gateway has a keeper; one of them at a time does the work.
"""

import asyncio
import contextlib
import logging
import time
from uuid import uuid4

import obstore
from redis.exceptions import RedisError

from service.jobs import storage
from service.jobs.board import Board, UnknownJobError
from service.jobs.job import FOLDER, RECORD, TOLD, Job
from service.outputs.store import STORE_ERRORS, Store, delete_folder, exists

logger = logging.getLogger(__name__)

ROUND_SECONDS = 2.0
"""Between two looks for files of jobs that were cancelled or failed."""

COMPARE_SECONDS = 60.0
"""Between two comparisons of all jobs in the store with those in Redis. A Redis that forgot is compared at once."""

_LOCK = "creps:keeper"
_LOCK_MS = 30_000
_COMPARED = "creps:keeper:compared"
"""Exists for as long as Redis has been compared with the store lately; an emptied Redis has not."""


class Keeper:
    """Looks after all jobs. :meth:`run` goes on until it is cancelled.

    Args:
        days: after which an ended job and its files are removed.
    """

    def __init__(self, board: Board, store: Store, days: float, round_seconds: float = ROUND_SECONDS) -> None:
        self._board = board
        self._store = store
        self._seconds = days * 86_400
        self._round_seconds = round_seconds
        self._name = uuid4().hex

    async def run(self) -> None:
        """One round after another. Outlives Redis and the store."""
        quiet = False
        while True:
            try:
                if await self._is_mine():
                    await self.look()
                quiet = False
            except (RedisError, *STORE_ERRORS) as error:
                if not quiet:
                    logger.warning("jobs cannot be looked after: %s", str(error).partition("\n")[0])
                quiet = True
            await asyncio.sleep(self._round_seconds)

    async def look(self) -> None:
        """One round."""
        for status in await self._board.untidy():
            if status.open == 0:  # else a worker may be writing still
                await storage.remove(self._store, status.job)
                await self._board.tidied(status.job.id)
        for job_id in await self._board.ended_before(time.time() - self._seconds):
            with contextlib.suppress(UnknownJobError):
                await self.remove((await self._board.status(job_id)).job)
        if await self._board.redis.set(_COMPARED, 1, nx=True, px=round(COMPARE_SECONDS * 1000)):
            try:
                await self.compare()
            except (RedisError, *STORE_ERRORS):
                await self._board.redis.delete(_COMPARED)
                raise

    async def remove(self, job: Job) -> None:
        """Removes an ended job: its files first, so that what is interrupted is done again."""
        await storage.remove(self._store, job)
        await self._board.forget(job.id)
        logger.info("job %s is removed", job.id)

    async def compare(self) -> None:
        """Has jobs that the store alone knows go on, and removes files that belong to no job."""
        listing = await obstore.list_with_delimiter_async(self._store, FOLDER)
        known = await self._board.ids()
        for folder in listing["common_prefixes"]:
            if (job_id := folder.rpartition("/")[2]) not in known:
                await self._adopt(job_id)

    async def _adopt(self, job_id: str) -> None:
        folder = f"{FOLDER}/{job_id}"
        try:
            job = await storage.read_record(self._store, job_id)
        except FileNotFoundError:
            logger.info("files of job %s, which there is no more, are removed", job_id)
            await delete_folder(self._store, folder)
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.error("%s/%s cannot be read: %r", folder, RECORD, error)
            return
        try:
            finished = (await obstore.head_async(self._store, job.path(job.order.name)))["last_modified"].timestamp()
        except FileNotFoundError:
            logger.info("job %s goes on, which Redis did not know", job.id)
            await self._board.admit(job)
            return
        await self._board.remember(job, finished, told=await exists(self._store, job.path(TOLD)))

    async def _is_mine(self) -> bool:
        """Whether this keeper is the one that works: the first to say so, for as long as it says so again."""
        redis = self._board.redis
        if await redis.set(_LOCK, self._name, nx=True, px=_LOCK_MS):
            return True
        if await redis.get(_LOCK) != self._name.encode():
            return False
        await redis.pexpire(_LOCK, _LOCK_MS)
        return True
