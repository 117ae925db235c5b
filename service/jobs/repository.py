"""Jobs as Redis has them: which there are, how far each is, what of it is queued. The rules stand in scripts.py."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from redis.asyncio import Redis

from model.errors import InputError
from service.jobs import scripts
from service.jobs.job import Job, Webhook
from service.outputs.order import Order

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("queued", "running")

Told = Literal["waiting", "sent", "failed"]
"""Whether a webhook has been told of the end of its job."""

WINDOW = 256
"""Tiles of one job in the queue at most: enough for dozens of workers, and nothing for Redis' memory."""

_RATE_EVENTS = 64
"""As many of the last tiles, or more, tell how fast a job goes."""

_JOBS = "creps:jobs"
_ENDED = "creps:jobs:ended"
_UNTIDY = "creps:jobs:untidy"
_COMPARED = "creps:jobs:compared"


class UnknownJobError(InputError):
    """There is no such job, or none that is finished."""


class TooManyJobsError(Exception):
    """As many jobs as are allowed are unfinished."""


class UnsettledKeysError(Exception):
    """Redis was started anew, and has not been compared with the store yet: a key's job may be among what it lost."""


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        done, total: tiles that are in the store, and all of them.
        stored: tiles of them that are in the file which is being finished.
        open: entries of it in the queue.
        rate: tiles a second of late, drawn or, once all are, written into the one file; None where that cannot be told.
        started, finished: unix seconds.
        error: why it failed.
        told: whether its webhook was, once it has ended and has one.
    """

    job: Job
    state: State
    done: int
    total: int
    stored: int
    open: int
    rate: float | None
    started: float | None
    finished: float | None
    error: str | None
    told: Told | None

    @property
    def ended(self) -> bool:
        return self.state not in UNFINISHED

    @property
    def left(self) -> int:
        """Tiles that have still to be drawn or, once all are, to be written into the one file."""
        if self.done < self.total or self.job.order.kind == "dzi":
            return self.total - self.done
        return max(self.total - self.stored, 0)


class Board:
    """Reads and changes jobs. Every method may raise redis.exceptions.RedisError.

    Args:
        redis: from :func:`service.queue.connect`.
    """

    def __init__(self, redis: "Redis") -> None:
        self.redis = redis
        self._admit = redis.register_script(scripts.ADMIT)
        self._remember = redis.register_script(scripts.REMEMBER)
        self._cancel = redis.register_script(scripts.CANCEL)
        self._forget = redis.register_script(scripts.FORGET)
        self._claim_webhook = redis.register_script(scripts.CLAIM_WEBHOOK)
        self._settle_webhook = redis.register_script(scripts.SETTLE_WEBHOOK)

    async def admit(self, job: Job, limit: int | None = None) -> str:
        """Queues a job's first tiles, unless its key has a job already.

        Args:
            limit: unfinished jobs that there may be. None: the job had been accepted before.

        Returns:
            the id of the job that is there now, this one or the key's.

        Raises:
            TooManyJobsError, UnsettledKeysError: nothing was changed.
        """
        answer = await self._ask_admission(job, limit, "")
        assert answer is not None  # noqa: S101 - whoever does not only ask is told an id
        return answer

    async def known(self, job: Job, limit: int) -> str | None:
        """What :meth:`admit` would return or raise now, which this does not do; None where it would queue the job."""
        return await self._ask_admission(job, limit, "ask")

    async def _ask_admission(self, job: Job, limit: int | None, mode: Literal["", "ask"]) -> str | None:
        tiles, pixels = job.order.pyramid.tiles, job.order.tile**2
        order: list[Any] = [job.id, job.order.to_json(), job.created, tiles, pixels]
        order += [WINDOW, _webhook(job), job.key or ""]
        answer = await self._admit(args=[*order, "" if limit is None else limit, mode])
        if answer == b"full":
            raise TooManyJobsError(f"{limit} jobs are unfinished, which is the limit")
        if answer == b"unsettled":
            raise UnsettledKeysError("jobs are being looked for in the store, and one may have this Idempotency-Key")
        return None if answer is None else answer.decode()

    async def remember(self, job: Job, finished: float, *, told: bool = False) -> None:
        """Notes a job that had succeeded at ``finished`` (unix seconds), if it is not known.

        Args:
            told: whether its webhook knows.
        """
        tiles = job.order.pyramid.tiles
        order: list[Any] = [job.id, job.order.to_json(), job.created, tiles]
        await self._remember(args=[*order, finished, _webhook(job), int(told), job.key or ""])

    async def cancel(self, job_id: str) -> bool:
        """Ends an unfinished job: no tile of it is begun any more. False where it had ended."""
        return bool(await self._cancel(args=[job_id]))

    async def forget(self, job_id: str) -> None:
        """Removes all that is known of a job whose files are gone."""
        await self._forget(args=[job_id])

    async def is_compared(self) -> bool:
        """Whether this Redis, since its last start, was compared with the store."""
        compared: Any = await self.redis.get(_COMPARED)
        return compared is not None and compared.decode() == await self._run()

    async def begin_comparison(self) -> str:
        """Begins to compare. Returns what :meth:`end_comparison` needs."""
        await self.redis.set(_COMPARED, "", nx=True)
        return await self._run()

    async def end_comparison(self, run: str) -> None:
        """Notes that all jobs in the store are known. It is void where Redis has been started or emptied meanwhile."""
        await self.redis.set(_COMPARED, run, xx=True)

    async def _run(self) -> str:
        """Redis makes up another at each start."""
        server: Any = await self.redis.info("server")
        return str(server["run_id"])

    async def untidy(self) -> dict[str, int]:
        """Ids of jobs that were cancelled or failed, and whose files have still to be removed; with how many entries
        of each are in the queue."""
        members: Any = await self.redis.smembers(_UNTIDY)
        async with self.redis.pipeline(transaction=False) as pipeline:
            for member in members:
                pipeline.hget(f"creps:job:{member.decode()}", "open")
            counts = await pipeline.execute()
        return {member.decode(): int(count or 0) for member, count in zip(members, counts, strict=True)}

    async def tidied(self, job_id: str) -> None:
        """Notes that the files of a cancelled or failed job are removed."""
        await self.redis.srem(_UNTIDY, job_id)

    async def claim_webhook(self, seconds: float) -> tuple[str, int] | None:
        """An ended job whose webhook is to be told now, and how often that was tried: ours for so many seconds."""
        claimed: Any = await self._claim_webhook(args=[seconds])
        return (claimed[0].decode(), claimed[1]) if claimed else None

    async def settle_webhook(self, job_id: str, told: Told, again: float = 0.0) -> None:
        """Notes how it went; ``waiting``: it is tried again after ``again`` seconds."""
        await self._settle_webhook(args=[job_id, told, again])

    async def status(self, job_id: str) -> Status:
        """How far a job is. Raises UnknownJobError."""
        found = await self._statuses([job_id])
        if not found:
            raise UnknownJobError("job", "there is no such job; finished ones are removed after some days")
        return found[0]

    async def finished(self, job_id: str) -> Job:
        """A job whose output is complete. Raises UnknownJobError."""
        status = await self.status(job_id)
        if status.state != "succeeded":
            raise UnknownJobError("job", f"is {status.state}: it has no finished output")
        return status.job

    async def ids(self) -> set[str]:
        """Of all jobs."""
        members: Any = await self.redis.zrange(_JOBS, 0, -1)
        return {member.decode() for member in members}

    async def latest(self, limit: int, offset: int = 0, state: State | None = None) -> list[Status]:
        """Jobs, the newest first."""
        found: Any = await self.redis.zrange(
            _JOBS if state is None else f"{_JOBS}:{state}", offset, offset + limit - 1, desc=True
        )
        return await self._statuses([member.decode() for member in found])

    async def ended_before(self, moment: float) -> list[str]:
        """Ids of jobs that ended before ``moment`` (unix seconds)."""
        found: Any = await self.redis.zrange(_ENDED, 0, moment, byscore=True)  # type: ignore[arg-type, unused-ignore]
        return [member.decode() for member in found]

    async def counts(self) -> dict[State, int]:
        """Jobs in each state."""
        async with self.redis.pipeline(transaction=False) as pipeline:
            for state in STATES:
                pipeline.zcard(f"{_JOBS}:{state}")
            return dict(zip(STATES, await pipeline.execute(), strict=True))

    async def finished_tiles(self, job_id: str) -> Iterator[int]:
        """Indices of the tiles that are in the store, in their order: there may be millions."""
        bits: Any = await self.redis.get(f"creps:job:{job_id}:tiles") or b""
        return (8 * i + j for i, byte in enumerate(bits) for j in range(8) if byte & 0x80 >> j)

    async def last_event(self, job_id: str) -> str:
        """The id of the last thing that has happened to a job."""
        events: Any = await self.redis.xrevrange(f"creps:job:{job_id}:events", count=1)
        return events[0][0].decode() if events else "0-0"

    async def has_event(self, job_id: str, event: str) -> bool:
        """Whether that has happened to the job, not too long ago."""
        return bool(await self.redis.xrange(f"creps:job:{job_id}:events", min=event, max=event))

    async def events(self, job_id: str, after: str) -> tuple[str, list[int]]:
        """What has happened after an event: the id of the last of it, and the tiles that were stored."""
        events: Any = await self.redis.xrange(f"creps:job:{job_id}:events", min=f"({after}")
        last = events[-1][0].decode() if events else after
        return last, [int(fields[b"tile"]) for _, fields in events if b"tile" in fields]

    async def _statuses(self, ids: Sequence[str]) -> list[Status]:
        async with self.redis.pipeline(transaction=False) as pipeline:
            for job_id in ids:
                pipeline.hgetall(f"creps:job:{job_id}")
                pipeline.xrevrange(f"creps:job:{job_id}:events", count=_RATE_EVENTS)
            answers = await pipeline.execute()
        statuses = []
        for job_id, fields, events in zip(ids, answers[::2], answers[1::2], strict=True):
            if fields:
                try:
                    statuses.append(_status(job_id, fields, events))
                except (ValueError, KeyError, TypeError) as error:  # as of a newer gateway, while there are old ones
                    logger.warning("job %s cannot be read: %r", job_id, error)
        return statuses


Events = Sequence[tuple[bytes, Mapping[bytes, bytes]]]
"""The newest first. Their ids begin with their times in milliseconds."""


def _status(job_id: str, fields: Mapping[bytes, bytes], events: Events) -> Status:
    webhook = Webhook(**json.loads(fields[b"webhook"])) if b"webhook" in fields else None
    key = fields[b"key"].decode() if b"key" in fields else None
    job = Job(job_id, float(fields[b"created"]), Order.from_json(fields[b"order"]), webhook, key)
    state: Any = fields[b"state"].decode()
    told: Any = fields[b"told"].decode() if b"told" in fields else None
    done, total = int(fields[b"done"]), int(fields[b"total"])
    return Status(
        job=job,
        state=state,
        done=done,
        total=total,
        stored=int(fields.get(b"stored", 0)),
        open=int(fields[b"open"]),
        rate=_drawing_rate(events) if done < total or job.order.kind == "dzi" else _writing_rate(events),
        started=float(fields[b"started"]) if b"started" in fields else None,
        finished=float(fields[b"finished"]) if b"finished" in fields else None,
        error=fields[b"error"].decode() if b"error" in fields else None,
        told=told,
    )


def _webhook(job: Job) -> str:
    return "" if job.webhook is None else json.dumps(asdict(job.webhook))


def _drawing_rate(events: Events) -> float | None:
    times = [_seconds(event) for event, fields in events if b"tile" in fields]
    return len(times) / _since(times[-1]) if len(times) > 1 else None


def _writing_rate(events: Events) -> float | None:
    notes: list[tuple[float, int]] = []
    for event, fields in events:
        if b"stored" in fields:
            written = int(fields[b"stored"])
            if notes and written > notes[-1][1]:
                break  # an earlier attempt, which had come further
            notes.append((_seconds(event), written))
    written = notes[0][1] - notes[-1][1] if notes else 0
    return written / _since(notes[-1][0]) if written else None


def _seconds(event: bytes) -> float:
    return int(event.partition(b"-")[0]) / 1000


def _since(moment: float) -> float:
    return max(time.time() - moment, 0.001)
