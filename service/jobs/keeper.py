"""Keeps object store and Redis in step: jobs that Redis lost go on, files that nobody wants go, old jobs end.

Every gateway has a keeper; one of them at a time does the work.
"""

import asyncio
import logging
import time
from uuid import uuid4

import obstore
from redis.exceptions import RedisError

from service.jobs import storage
from service.jobs.board import Board
from service.jobs.job import FOLDER, RECORD, TOLD
from service.outputs.store import STORE_ERRORS, Store, exists

logger = logging.getLogger(__name__)

ROUND_SECONDS = 2.0
"""Between two looks for files of jobs that were cancelled or failed."""

COMPARE_SECONDS = 60.0
"""Between two comparisons of all jobs in the store with those in Redis. A Redis that was started anew, and so may have
forgotten some, is compared at once."""

ADOPTED_AT_ONCE = 16
"""A bucket answers after tens of milliseconds, and orders with a key wait until a Redis that lost all is compared."""

_LOCK = "creps:keeper"
_LOCK_MS = 10_000


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
        self._compared = -COMPARE_SECONDS
        self._recordless: set[str] = set()

    async def run(self) -> None:
        """One round after another. Outlives Redis, the store, and whatever else goes wrong in a round."""
        told: type[Exception] | None = None
        while True:
            try:
                if await self._is_mine():
                    await self.look()
                told = None
            except Exception as error:
                if type(error) is not told:
                    foreseen = isinstance(error, (RedisError, *STORE_ERRORS))
                    reason = str(error).partition("\n")[0]
                    logger.warning("jobs cannot be looked after: %s", reason, exc_info=not foreseen)
                told = type(error)
            await asyncio.sleep(self._round_seconds)

    async def look(self) -> None:
        """One round. Orders wait for the comparison, so that nothing else may keep it from being made."""
        if time.monotonic() - self._compared >= COMPARE_SECONDS or not await self._board.is_compared():
            await self.compare()
            self._compared = time.monotonic()
        for job_id, open_entries in (await self._board.untidy()).items():
            if open_entries == 0:  # else a worker may be writing still
                await storage.remove(self._store, job_id)
                await self._board.tidied(job_id)
        for job_id in await self._board.ended_before(time.time() - self._seconds):
            await storage.remove(self._store, job_id)  # first, so that what is interrupted is done again
            await self._board.forget(job_id)
            logger.info("job %s is removed", job_id)

    async def compare(self) -> None:
        """Has jobs that the store alone knows go on, and removes files that belonged to no job the last time either."""
        run = await self._board.begin_comparison()
        listing = await obstore.list_with_delimiter_async(self._store, FOLDER)
        known = await self._board.ids()
        before, self._recordless = self._recordless, set()
        unknown = [job_id for path in listing["common_prefixes"] if (job_id := path.rpartition("/")[2]) not in known]
        for start in range(0, len(unknown), ADOPTED_AT_ONCE):
            await asyncio.gather(*map(self._adopt, unknown[start : start + ADOPTED_AT_ONCE]))
        await self._board.end_comparison(run)
        for job_id in self._recordless & before:  # no record is being written, then
            logger.info("files of job %s, which there is no more, are removed", job_id)
            await storage.remove(self._store, job_id)
        self._recordless -= before

    async def _adopt(self, job_id: str) -> None:
        folder = f"{FOLDER}/{job_id}"
        try:
            job = await storage.read_record(self._store, job_id)
        except FileNotFoundError:
            self._recordless.add(job_id)
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.error("%s/%s cannot be read: %r", folder, RECORD, error)
            return
        try:
            finished = (await obstore.head_async(self._store, job.path(job.order.name)))["last_modified"].timestamp()
        except FileNotFoundError:
            logger.info("job %s goes on, which Redis did not know", job.id)
            if await self._board.admit(job) != job.id:
                # Its client was told so little of it that it asked again, and has the other one.
                await storage.remove_record(self._store, job.id)
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
