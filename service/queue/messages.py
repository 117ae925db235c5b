"""The queue, a thin reading of Redis Streams: what is sent over it. Gateways: render_client.py. Workers: consumer.py.

A request is an entry of a stream that all workers read as one consumer group. Its reply is an entry of the reply stream
of the gateway that asked. Everything is delivered at least once: a picture may be rendered twice, and nobody can tell,
since rendering is deterministic and a second reply is ignored.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from model.errors import InputError
from model.spec import RenderSpec

PICTURES = "creps:queue:pictures"
BATCH = "creps:queue:batch"
TILES = "creps:queue:tiles"

STREAMS = (PICTURES, BATCH, TILES)
"""The streams of requests, the most urgent first."""

Priority = Literal["interactive", "batch"]
"""Whether somebody looks at the screen, or a program fetches pictures by the thousand, which may wait for that."""

STREAM_OF: Mapping[Priority, str] = {"interactive": PICTURES, "batch": BATCH}

GROUP = "workers"
DEAD = "creps:dead"
WORKERS = "creps:workers"

BLOCK_MS = 500
"""How long one read waits for entries, in milliseconds."""

_CONNECTIONS = 64

ANSWER_SECONDS, CONNECT_SECONDS = 5.0, 3.0
"""How long Redis may take for one answer, of a picture of 50 MB for instance, and to take a connection. Reads that wait
for entries do so for BLOCK_MS."""

FailureKind = Literal["invalid", "memory", "unavailable", "failed"]

CacheOutcome = Literal["hit", "miss", "shared"]

WorkerState = Literal["idle", "busy", "stopping"]
WORKER_STATES: tuple[WorkerState, ...] = get_args(WorkerState)


class QueueFull(Exception):  # noqa: N818 - named like asyncio.QueueFull
    """As many requests as are allowed wait already.

    Attributes:
        retry_after: seconds, at least 1, after which it is worth asking again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full, try again in {retry_after} s")
        self.retry_after = retry_after


class DeadlinePassed(Exception):  # noqa: N818
    """No worker answered in time."""


class RenderFailed(Exception):  # noqa: N818
    """A worker answered that there will be no picture.

    Attributes:
        kind: "invalid": the spec does not suit the model; "memory": the picture does not fit the worker's memory;
            "unavailable": the worker cannot load the model; "failed": anything else.
        field: for "invalid", what the caller must mend.
    """

    def __init__(self, kind: FailureKind, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.field = field


@dataclass(frozen=True)
class RenderResult:
    """An encoded picture, and the seconds that it spent waiting (and travelling), being rendered and being encoded.

    Attributes:
        cache: "miss": drawn for the one who has it here; "hit": it was kept; "shared": it was being drawn already.
    """

    content: bytes
    queue_seconds: float
    render_seconds: float
    encode_seconds: float
    cache: CacheOutcome = "miss"


@dataclass(frozen=True)
class WorkerInfo:
    """What a live worker tells about itself with every heartbeat.

    Attributes:
        id: host, process and a random part.
        state: "idle", "busy" or "stopping".
        models: digests of the models that it has loaded.
        rates: pixels a second that it draws of each model, as last measured.
    """

    id: str
    device: str
    state: WorkerState
    models: tuple[str, ...]
    rates: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "WorkerInfo":
        values = json.loads(text)
        return cls(values["id"], values["device"], values["state"], tuple(values["models"]), values["rates"])


@dataclass(frozen=True)
class Request:
    """A picture that somebody waits for.

    Attributes:
        id: 32 hex digits, drawn by the gateway.
        spec: its ``model`` is a digest.
        submitted, deadline: unix seconds; the hosts' clocks must agree to about a second.
        reply: the stream that takes the answer.
        context: what log messages about it say, such as the ``request_id`` of the HTTP request.
        traceparent: the span that it belongs to, as W3C Trace Context writes it; empty where it is not traced.
    """

    id: str
    spec: RenderSpec
    submitted: float
    deadline: float
    reply: str
    context: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""

    def to_fields(self) -> dict[str, str]:
        """The stream entry. ``pixels`` comes first, where the consumer's script looks for it."""
        return {
            "pixels": str(self.spec.viewport.pixels),
            "id": self.id,
            "spec": self.spec.to_json(),
            "submitted": repr(self.submitted),
            "deadline": repr(self.deadline),
            "reply": self.reply,
            "context": json.dumps(self.context),
            "traceparent": self.traceparent,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> "Request":
        """The inverse of :meth:`to_fields`. Raises ValueError, KeyError or TypeError for what it did not write."""
        return cls(
            fields[b"id"].decode(),
            RenderSpec.from_json(fields[b"spec"]),
            float(fields[b"submitted"]),
            float(fields[b"deadline"]),
            fields[b"reply"].decode(),
            json.loads(fields.get(b"context", b"{}")),
            fields.get(b"traceparent", b"").decode(),
        )


def connect(url: str) -> "Redis":
    """A client as the queue needs it: an error is told at once, for the caller knows best what to try again.

    Raises:
        InputError: the address makes no sense. No connection is made yet.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=ANSWER_SECONDS,  # for a free connection, where all are waiting for a Redis that does not answer
            protocol=2,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:  # whose message may show a piece of a password
        raise InputError("redis_url", "is no address of a Redis server: redis://, rediss:// or unix://") from None
    return Redis.from_pool(pool)


def success_fields(content: bytes, render_seconds: float, encode_seconds: float) -> dict[str, Any]:
    """A picture as a reply's fields."""
    return {"content": content, "render": render_seconds, "encode": encode_seconds}


def failure_fields(failure: RenderFailed) -> dict[str, Any]:
    """A failure as a reply's fields."""
    return {"error": json.dumps({"kind": failure.kind, "message": str(failure), "field": failure.field})}


def cancelled_key(request_id: str) -> str:
    """The key that exists once nobody waits for the request."""
    return f"creps:cancelled:{request_id}"


def worker_key(worker_id: str) -> str:
    """The key that holds a live worker's WorkerInfo as JSON, and expires with its heartbeat."""
    return f"creps:worker:{worker_id}"


async def stop_task(task: "asyncio.Task[Any]") -> None:
    """Cancels a task that talks to Redis, and waits for its end.

    Once may not be enough: before Python 3.12, ``asyncio.wait_for``, as redis-py uses it, can swallow a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


async def live_workers(redis: "Redis") -> list[WorkerInfo]:
    """The workers whose heartbeat has not expired, ordered by id."""
    members: Any = await redis.smembers(WORKERS)
    ids = sorted(member.decode() for member in members)
    found = await redis.mget([worker_key(id_) for id_ in ids]) if ids else []
    return [WorkerInfo.from_json(text) for text in found if text is not None]
