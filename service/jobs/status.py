"""How far a job is, as Redis knows it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from service.imaging.order import read_order
from service.jobs.job import Job, Webhook
from service.jobs.pace import Mark

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("queued", "running")

WebhookState = Literal["waiting", "sent", "failed"]

Events = Sequence[tuple[bytes, Mapping[bytes, bytes]]]
"""The oldest first. Their ids begin with their unix times in milliseconds."""


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        done, total: number of tiles that are stored, and of all tiles.
        stored: number of tiles in the file that is being assembled.
        open: entries of the job in the queue.
        started, finished: unix seconds.
        error: why the job failed.
        webhook: state of its webhook, once the job has ended and if it has one.
        marks: when how many tiles were stored or, once all are, assembled: some of late, in order.
        now: when this was read, by the same clock as the marks, which is Redis' own.
    """

    job: Job
    state: State
    done: int
    total: int
    stored: int
    open: int
    started: float | None
    finished: float | None
    error: str | None
    webhook: WebhookState | None
    marks: Sequence[Mark]
    now: float = field(compare=False)

    @property
    def ended(self) -> bool:
        return self.state not in UNFINISHED

    @classmethod
    def from_redis(cls, job_id: str, fields: Mapping[bytes, bytes], events: Events, now: float) -> "Status":
        """``events`` are some of the job's latest.

        Raises ValueError, KeyError or TypeError for fields that the scripts in lua/ did not write.
        """
        texts: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
        export = read_order(texts["order"])
        webhook = Webhook(**json.loads(texts["webhook"])) if "webhook" in texts else None
        done, total = int(texts["done"]), int(texts["total"])
        return cls(
            job=Job(
                job_id,
                float(texts["created"]),
                export,
                webhook,
                texts.get("key"),
                owner=texts.get("owner"),
                **json.loads(texts.get("details", "{}")),
            ),
            state=texts["state"],
            done=done,
            total=total,
            stored=int(texts.get("stored", 0)),
            open=int(texts["open"]),
            started=float(texts["started"]) if "started" in texts else None,
            finished=float(texts["finished"]) if "finished" in texts else None,
            error=texts.get("error"),
            webhook=texts.get("told"),
            marks=_rendered(events) if done < total or export.kind == "dzi" else _assembled(events),
            now=now,
        )


def _rendered(events: Events) -> list[Mark]:
    # Workers of earlier versions do not tell the number of tiles.
    return _marks((event, fields[b"done"]) for event, fields in events if b"done" in fields)


def _assembled(events: Events) -> list[Mark]:
    """The marks of the latest attempt: an earlier one may have come further."""
    marks = _marks((event, fields[b"stored"]) for event, fields in events if b"stored" in fields)
    begins = [i for i in range(1, len(marks)) if marks[i].work < marks[i - 1].work]
    return marks[begins[-1] if begins else 0 :]


def _marks(counts: Iterable[tuple[bytes, bytes]]) -> list[Mark]:
    """From the ids of events, which begin with their times, and numbers of tiles."""
    return [Mark(int(event.partition(b"-")[0]) / 1000, int(tiles)) for event, tiles in counts]
