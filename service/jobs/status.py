"""How far a job is, as Redis knows it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from service.imaging.order import read_order
from service.jobs.job import Job, Webhook

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
UNFINISHED: tuple[State, ...] = ("queued", "running")

WebhookState = Literal["waiting", "sent", "failed"]

Events = Sequence[tuple[bytes, Mapping[bytes, bytes]]]
"""The newest first. Their ids begin with their unix times in milliseconds."""


@dataclass(frozen=True)
class Status:
    """How far a job is.

    Attributes:
        done, total: number of tiles that are stored, and of all tiles.
        stored: number of tiles in the file that is being assembled.
        open: entries of the job in the queue.
        rate: tiles per second of late: rendered or, once all are, assembled; None where it is not known.
        started, finished: unix seconds.
        error: why the job failed.
        webhook: state of its webhook, once the job has ended and if it has one.
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
    webhook: WebhookState | None

    @property
    def ended(self) -> bool:
        return self.state not in UNFINISHED

    @property
    def left(self) -> int:
        """Tiles still to be rendered or, once all are, to be assembled."""
        if self.done < self.total or self.job.export.kind == "dzi":
            return self.total - self.done
        return max(self.total - self.stored, 0)

    @classmethod
    def from_redis(cls, job_id: str, fields: Mapping[bytes, bytes], events: Events) -> "Status":
        """Raises ValueError, KeyError or TypeError for fields that the scripts in lua/ did not write."""
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
            rate=_rendering_rate(events) if done < total or export.kind == "dzi" else _assembly_rate(events),
            started=float(texts["started"]) if "started" in texts else None,
            finished=float(texts["finished"]) if "finished" in texts else None,
            error=texts.get("error"),
            webhook=texts.get("told"),
        )


def _rendering_rate(events: Events) -> float | None:
    times = [_unix_seconds(event) for event, fields in events if b"tile" in fields]
    return len(times) / _seconds_since(times[-1]) if len(times) > 1 else None


def _assembly_rate(events: Events) -> float | None:
    notes: list[tuple[float, int]] = []
    for event, fields in events:
        if b"stored" in fields:
            tiles = int(fields[b"stored"])
            if notes and tiles > notes[-1][1]:
                break  # of an earlier attempt, which had come further
            notes.append((_unix_seconds(event), tiles))
    tiles = notes[0][1] - notes[-1][1] if notes else 0
    return tiles / _seconds_since(notes[-1][0]) if tiles else None


def _unix_seconds(event: bytes) -> float:
    return int(event.partition(b"-")[0]) / 1000


def _seconds_since(moment: float) -> float:
    return max(time.time() - moment, 0.001)
