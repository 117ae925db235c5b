"""Keeps object store and Redis in step: restores jobs that Redis lost, removes files of dead jobs, expires old jobs."""

import asyncio
import logging
import time
from uuid import uuid4

import obstore
from redis.exceptions import RedisError

from service.imaging.object_store import STORE_ERRORS, Store, exists
from service.jobs import records
from service.jobs.job import FOLDER, RECORD, WEBHOOK_SENT
from service.jobs.repository import JobRepository
from service.runtime.redis_keys import RECONCILER_LOCK

logger = logging.getLogger(__name__)

ROUND_SECONDS = 2.0

COMPARE_SECONDS = 60.0
"""Between two comparisons of all jobs in the store with those in Redis. A restarted Redis is compared at once."""

CONCURRENT_READS = 16
"""Records that are read at once: buckets take tens of milliseconds, and clients wait for the first comparison."""

LOCK_MS = 10_000


class Reconciler:
    """Every gateway runs one; the one that holds a lock in Redis does the work. Ended jobs are removed after
    ``days``."""

    def __init__(self, repository: JobRepository, store: Store, days: float) -> None:
        self._repository = repository
        self._store = store
        self._seconds = days * 86_400
        self._id = uuid4().hex
        self._compared = -COMPARE_SECONDS
        self._without_record: set[str] = set()

    async def run(self) -> None:
        """Reconciles every ROUND_SECONDS for ever, whatever fails."""
        logged: type[Exception] | None = None
        while True:
            try:
                if await self._holds_lock():
                    await self.reconcile()
                logged = None
            except Exception as error:
                if type(error) is not logged:
                    expected = isinstance(error, (RedisError, *STORE_ERRORS))
                    reason = str(error).partition("\n")[0]
                    logger.warning("jobs cannot be reconciled: %s", reason, exc_info=not expected)
                logged = type(error)
            await asyncio.sleep(ROUND_SECONDS)

    async def reconcile(self) -> None:
        """One round. The comparison comes first, since clients with idempotency keys wait for it."""
        if time.monotonic() - self._compared >= COMPARE_SECONDS or not await self._repository.is_compared():
            await self.compare()
            self._compared = time.monotonic()
        for job_id, open_entries in (await self._repository.pending_cleanup()).items():
            if open_entries == 0:  # else a worker may still write
                await records.remove(self._store, job_id)
                await self._repository.cleaned_up(job_id)
        for job_id in await self._repository.ended_before(time.time() - self._seconds):
            await records.remove(self._store, job_id)  # first, so that it is repeated where it was interrupted
            await self._repository.delete(job_id)
            logger.info("job %s has expired", job_id)

    async def compare(self) -> None:
        """Restores jobs that only the store knows; removes folders that had no record in the last comparison either."""
        token = await self._repository.begin_comparison()
        listing = await obstore.list_with_delimiter_async(self._store, FOLDER)
        known = await self._repository.ids()
        before, self._without_record = self._without_record, set()
        unknown = [job_id for path in listing["common_prefixes"] if (job_id := path.rpartition("/")[2]) not in known]
        for start in range(0, len(unknown), CONCURRENT_READS):
            await asyncio.gather(*map(self._restore, unknown[start : start + CONCURRENT_READS]))
        await self._repository.end_comparison(token)
        for job_id in self._without_record & before:  # else the record may just be being written
            logger.info("files of job %s, which does not exist any more, are removed", job_id)
            await records.remove(self._store, job_id)
        self._without_record -= before

    async def _restore(self, job_id: str) -> None:
        try:
            job = await records.read_record(self._store, job_id)
        except FileNotFoundError:
            self._without_record.add(job_id)
            return
        except (ValueError, KeyError, TypeError) as error:
            logger.error("%s/%s/%s cannot be read: %r", FOLDER, job_id, RECORD, error)
            return
        try:
            finished = (await obstore.head_async(self._store, job.path(job.export.name)))["last_modified"].timestamp()
        except FileNotFoundError:
            logger.info("job %s, which Redis did not know, goes on", job.id)
            if await self._repository.create(job) != job.id:
                # Its client never learned its id, and repeated the order under the same key.
                await records.remove_record(self._store, job.id)
            return
        sent = await exists(self._store, job.path(WEBHOOK_SENT))
        await self._repository.restore(job, finished, webhook_sent=sent)

    async def _holds_lock(self) -> bool:
        """Takes or renews the lock. False where another reconciler holds it."""
        redis = self._repository.redis
        if await redis.set(RECONCILER_LOCK, self._id, nx=True, px=LOCK_MS):
            return True
        if await redis.get(RECONCILER_LOCK) != self._id.encode():
            return False
        await redis.pexpire(RECONCILER_LOCK, LOCK_MS)
        return True
