"""Jobs in Redis: which there are and how far each is. Their state changes in the scripts of lua/."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from operator import add
from typing import Any, NamedTuple

from redis.asyncio import Redis

from model.errors import InputError
from service.jobs.job import Job
from service.jobs.pace import WINDOW
from service.jobs.status import STATES, UNFINISHED, State, Status, WebhookState
from service.runtime.redis import register_script
from service.runtime.redis_keys import (
    JOBS,
    JOBS_COMPARED,
    JOBS_ENDED,
    JOBS_OWNER,
    JOBS_UNTIDY,
    JOBS_WAITING,
    job_events_key,
    job_key,
    job_tiles_key,
)

logger = logging.getLogger(__name__)

LATEST_EVENTS, WINDOW_EVENTS = 64, 3
"""Events from which a job's pace is computed: the latest, and the first within pace.WINDOW, among which there is a
tile's also at the job's beginning. A fast job has hundreds a second."""


class UnknownJobError(InputError):
    """There is no such job, or it has no finished output."""


class NoSuchJobError(UnknownJobError):
    """There is no such job, or the client may not know of it."""

    def __init__(self) -> None:
        super().__init__("job", "there is no such job; finished ones are removed after some days")


class TooManyJobsError(Exception):
    """The limit of unfinished jobs is reached."""


class UnsettledKeysError(Exception):
    """Redis was restarted and not compared with the object store yet: it may have lost the idempotency key's job."""


class Waiting(NamedTuple):
    """Tiles of a job that no worker has taken yet, and the mean of their pixels."""

    tiles: int
    pixels: int


class JobRepository:
    """Reads and changes jobs. Every method may raise redis.exceptions.RedisError."""

    def __init__(self, redis: "Redis") -> None:
        self.redis = redis
        self._create, self._restore, self._cancel, self._delete, self._claim_webhook, self._settle_webhook = (
            register_script(redis, "service.jobs", "common", name)
            for name in ("create", "restore", "cancel", "delete", "claim_webhook", "settle_webhook")
        )

    async def create(self, job: Job, limit: int | None = None) -> str:
        """Lets a job's tiles wait for workers, unless its idempotency key has a job already. Returns the id of the job
        that exists.

        ``limit`` is the number of unfinished jobs that is allowed; None for a job that was accepted before. If it
        raises TooManyJobsError or UnsettledKeysError, nothing was changed.
        """
        job_id = await self._run_create(job, limit)
        assert job_id is not None  # noqa: S101 - it is None only in the mode "ask"
        return job_id

    async def find(self, job: Job, limit: int) -> str | None:
        """What :meth:`create` would return or raise, without changing anything; None where it would create the job."""
        return await self._run_create(job, limit, "ask")

    async def _run_create(self, job: Job, limit: int | None, mode: str = "") -> str | None:
        export = job.export
        pixels = math.ceil(export.pixels / export.tiles)
        arguments: list[Any] = [job.id, export.to_json(), job.created, export.tiles, pixels]
        arguments += [_webhook_json(job), job.key or "", "" if limit is None else limit, mode]
        arguments += [job.owner or "", json.dumps(job.details())]
        answer = await self._create(args=arguments)
        if answer == b"full":
            raise TooManyJobsError(f"{limit} jobs are unfinished, which is the limit")
        if answer == b"unsettled":
            raise UnsettledKeysError("jobs are being looked for in the store, and one may have this Idempotency-Key")
        return None if answer is None else answer.decode()

    async def restore(self, job: Job, finished: float, *, webhook_sent: bool = False) -> None:
        """Adds a job that succeeded at ``finished`` (unix seconds), unless Redis knows it."""
        export = job.export
        arguments: list[Any] = [job.id, export.to_json(), job.created, export.tiles, finished]
        arguments += [_webhook_json(job), int(webhook_sent), job.key or "", job.owner or "", json.dumps(job.details())]
        await self._restore(args=arguments)

    async def cancel(self, job_id: str) -> bool:
        """Ends an unfinished job: no further tile of it is rendered. False where it had ended."""
        return bool(await self._cancel(args=[job_id]))

    async def delete(self, job_id: str) -> None:
        """Deletes a job whose files were removed before."""
        await self._delete(args=[job_id])

    async def is_compared(self) -> bool:
        """Whether Redis was compared with the object store since it was started."""
        compared: Any = await self.redis.get(JOBS_COMPARED)
        return compared is not None and compared.decode() == await self._run_id()

    async def begin_comparison(self) -> str:
        """Returns a token for :meth:`end_comparison`."""
        await self.redis.set(JOBS_COMPARED, "", nx=True)
        return await self._run_id()

    async def end_comparison(self, token: str) -> None:
        """Notes that Redis knows all jobs of the store; void where it was restarted or emptied since the beginning."""
        await self.redis.set(JOBS_COMPARED, token, xx=True)

    async def _run_id(self) -> str:
        """Random, and new at each start of Redis."""
        server: Any = await self.redis.info("server")
        return str(server["run_id"])

    async def pending_cleanup(self) -> dict[str, int]:
        """Ids of failed and cancelled jobs whose files are still to be removed, with their entries in the queue."""
        members: Any = await self.redis.smembers(JOBS_UNTIDY)
        async with self.redis.pipeline(transaction=False) as pipeline:
            for member in members:
                pipeline.hget(job_key(member.decode()), "open")
            counts = await pipeline.execute()
        return {member.decode(): int(count or 0) for member, count in zip(members, counts, strict=True)}

    async def cleaned_up(self, job_id: str) -> None:
        """Notes that the files of a failed or cancelled job are removed."""
        await self.redis.srem(JOBS_UNTIDY, job_id)

    async def claim_webhook(self, seconds: float) -> tuple[str, int] | None:
        """Claims an ended job whose webhook is due, for some seconds: its id and the number of earlier attempts."""
        claimed: Any = await self._claim_webhook(args=[seconds])
        return (claimed[0].decode(), claimed[1]) if claimed else None

    async def settle_webhook(self, job_id: str, state: WebhookState, retry_after: float = 0.0) -> None:
        """Notes the outcome of an attempt. "waiting": the next one is due after ``retry_after`` seconds."""
        await self._settle_webhook(args=[job_id, state, retry_after])

    async def status(self, job_id: str) -> Status:
        """How far a job is. Raises UnknownJobError."""
        found = await self._statuses([job_id])
        if not found:
            raise NoSuchJobError
        return found[0]

    async def ids(self) -> set[str]:
        members: Any = await self.redis.zrange(JOBS, 0, -1)
        return {member.decode() for member in members}

    async def latest(
        self, limit: int, offset: int = 0, state: State | None = None, owner: str | None = None
    ) -> list[Status]:
        """Jobs, all or of one state, of all owners or of one, the newest first."""
        key = _list_key(state, owner)
        found: Any = await self.redis.zrange(key, offset, offset + limit - 1, desc=True)
        return await self._statuses([member.decode() for member in found])

    async def page(
        self, limit: int, after: str, state: State | None = None, owner: str | None = None
    ) -> tuple[list[Status], str | None]:
        """:meth:`latest` after a cursor, "" at first, and the cursor of the next page, if there is one.

        A cursor names the time and id of a job, which need not exist any more: deleted jobs shift nothing.
        """
        key = _list_key(state, owner)
        most, _, last = after.partition("-")
        same: Any = await self.redis.zcount(key, most, most) if after else 0
        found: Any = await self.redis.zrange(
            key, most or "+inf", "-inf", desc=True, withscores=True, byscore=True, offset=0, num=limit + same + 1
        )  # type: ignore[call-overload, unused-ignore]
        jobs = [(float(score), member.decode()) for member, score in found]
        if after:
            jobs = [job for job in jobs if job < (float(most), last)]
        more = len(jobs) > limit
        statuses = await self._statuses([job_id for _, job_id in jobs[:limit]])
        return statuses, "{!r}-{}".format(*jobs[limit - 1]) if more else None

    async def ended_before(self, moment: float) -> list[str]:
        """Ids of jobs that ended before ``moment`` (unix seconds)."""
        found: Any = await self.redis.zrange(JOBS_ENDED, 0, moment, byscore=True)  # type: ignore[arg-type, unused-ignore]
        return [member.decode() for member in found]

    async def counts(self, owner: str | None = None) -> dict[State, int]:
        """The number of jobs in each state, of all owners or of one."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for state in STATES:
                pipeline.zcard(_list_key(state, owner))
            return dict(zip(STATES, await pipeline.execute(), strict=True))

    async def waiting(self) -> dict[str, Waiting]:
        """The jobs with tiles that no worker has taken yet."""
        ids: Any = await self.redis.zrange(JOBS_WAITING, 0, -1)
        async with self.redis.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hmget(job_key(job_id.decode()), "state", "next", "total", "pixels")
            answers = await pipeline.execute()
        unfinished = {state.encode() for state in UNFINISHED}
        return {
            job_id.decode(): Waiting(int(total) - int(following), int(pixels))
            for job_id, (state, following, total, pixels) in zip(ids, answers, strict=True)
            if state in unfinished
        }

    async def finished_tiles(self, job_id: str) -> Iterator[int]:
        """Indices of the stored tiles in ascending order. There may be millions."""
        bits: Any = await self.redis.get(job_tiles_key(job_id)) or b""
        return (8 * i + j for i, byte in enumerate(bits) for j in range(8) if byte & 0x80 >> j)

    async def last_event(self, job_id: str) -> str:
        """The id of a job's last event, "0-0" where there is none."""
        events: Any = await self.redis.xrevrange(job_events_key(job_id), count=1)
        return events[0][0].decode() if events else "0-0"

    async def has_event(self, job_id: str, event: str) -> bool:
        """Whether Redis still keeps that event of a job."""
        return bool(await self.redis.xrange(job_events_key(job_id), min=event, max=event))

    async def events(self, job_id: str, after: str) -> tuple[str, list[int]]:
        """The events after another: the id of the last, and the tiles that were stored."""
        events: Any = await self.redis.xrange(job_events_key(job_id), min=f"({after}")
        last = events[-1][0].decode() if events else after
        return last, [int(fields[b"tile"]) for _, fields in events if b"tile" in fields]

    async def _statuses(self, ids: Sequence[str]) -> list[Status]:
        async with self.redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for job_id in ids:
                pipeline.hgetall(job_key(job_id))
                pipeline.xrevrange(job_events_key(job_id), count=LATEST_EVENTS)
            (seconds, microseconds), *answers = await pipeline.execute()
        latest = [events[::-1] for events in answers[1::2]]
        earlier = await self._earlier_events(ids, latest)
        statuses = []
        for job_id, fields, events in zip(ids, answers[::2], map(add, earlier, latest), strict=True):
            if fields:
                try:
                    statuses.append(Status.from_redis(job_id, fields, events, seconds + microseconds / 1e6))
                except (ValueError, KeyError, TypeError) as error:  # perhaps a newer gateway wrote it
                    logger.warning("job %s cannot be read: %r", job_id, error)
        return statuses

    async def _earlier_events(self, ids: Sequence[str], latest: Sequence[list[Any]]) -> list[list[Any]]:
        """Of each job the first of the events within pace.WINDOW of its last one, without those in ``latest``."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for job_id, events in zip(ids, latest, strict=True):
                start = int(events[-1][0].partition(b"-")[0]) - round(1000 * WINDOW) if events else 0
                pipeline.xrange(job_events_key(job_id), min=max(start, 0), count=WINDOW_EVENTS)
            found = await pipeline.execute()
        return [[event for event in first if event not in events] for first, events in zip(found, latest, strict=True)]


def _list_key(state: State | None, owner: str | None) -> str:
    key = JOBS if owner is None else f"{JOBS_OWNER}:{owner}"
    return key if state is None else f"{key}:{state}"


def _webhook_json(job: Job) -> str:
    return "" if job.webhook is None else json.dumps(asdict(job.webhook))
