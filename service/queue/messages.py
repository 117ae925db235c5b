"""What travels over the queue, which is made of Redis Streams. Gateways use client.py, workers consumer.py.

A request is an entry of a stream that all workers read as one consumer group. Its reply is a field of an entry of the
reply stream of its gateway, which may hold the replies of a whole batch. Delivery is at least once: an image may be
rendered twice, with the same bytes, and the second reply is ignored.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import msgspec
from redis.asyncio import Redis

from model.spec import RenderSpec
from service.runtime.redis_keys import BATCH, IMAGES, WORKERS, worker_key

Priority = Literal["interactive", "batch"]
"""Whether a person waits for the image, or a program that fetches images in bulk."""

STREAM_OF: Mapping[Priority, str] = {"interactive": IMAGES, "batch": BATCH}

Wanted = Literal["image", "styles"]
"""What a worker answers with: an encoded image, or the styles w+ of its latent as little-endian float32."""

BLOCK_MS = 500
"""Milliseconds for which one read waits for entries."""

FailureKind = Literal["invalid", "memory", "unavailable", "failed"]

CacheOutcome = Literal["hit", "miss", "shared"]

WorkerState = Literal["idle", "busy", "stopping"]
WORKER_STATES: tuple[WorkerState, ...] = get_args(WorkerState)


class QueueFull(Exception):  # noqa: N818 - named like asyncio.QueueFull
    """The limit of waiting requests is reached. ``retry_after`` is in seconds, at least 1."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full, try again in {retry_after} s")
        self.retry_after = retry_after


class DeadlinePassed(Exception):  # noqa: N818
    """No worker answered in time."""


class RenderFailed(Exception):  # noqa: N818
    """A worker could not render an image.

    Attributes:
        kind: "invalid": the spec does not suit the model; "memory": the image does not fit the worker's memory;
            "unavailable": the worker cannot load the model; "failed": anything else.
        field: for "invalid", the field that the client must correct.
    """

    def __init__(self, kind: FailureKind, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.field = field


@dataclass(frozen=True)
class RenderResult:
    """An encoded image, with the seconds that it spent in the queue, in rendering and in encoding.

    ``arithmetic`` is the renderer's (kernels.renderer.Renderer.arithmetic): images of one spec in one arithmetic have
    the same bytes. ``cache`` is "miss" if it was rendered for this request, "shared" if for another one in flight.
    """

    content: bytes
    queue_seconds: float
    render_seconds: float
    encode_seconds: float
    arithmetic: str
    cache: CacheOutcome = "miss"


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker publishes about itself with every heartbeat.

    ``models`` are the digests of the loaded models, ``rates`` their pixels per second as last measured, ``video`` tells
    whether it can encode all kinds of videos.
    """

    id: str
    device: str
    state: WorkerState
    models: tuple[str, ...]
    rates: Mapping[str, float] = field(default_factory=dict)
    video: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "WorkerInfo":
        values = json.loads(text)
        models, video = tuple(values["models"]), values.get("video", False)  # earlier versions tell nothing of it
        return cls(values["id"], values["device"], values["state"], models, values["rates"], video)


@dataclass(frozen=True)
class RenderRequest:
    """A request to render one image, or for the styles of its latent.

    Attributes:
        id: 32 hex digits, random.
        spec: its ``model`` is a digest.
        submitted, deadline: unix seconds; the clocks of all hosts must agree to about a second.
        reply: the stream for the reply.
        context: fields of log messages about the request, such as ``request_id``.
        traceparent: the span of the HTTP request (W3C Trace Context); empty where it is not traced.
        wanted: "styles" of the spec's latent in place of its image.
    """

    id: str
    spec: RenderSpec
    submitted: float
    deadline: float
    reply: str
    context: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    wanted: Wanted = "image"

    def to_fields(self) -> dict[str, str | bytes]:
        """The fields of the stream entry: what scripts and dead letters need, and MessagePack of the rest.

        ``pixels`` comes first, where lua/read.lua looks for it.
        """
        rest = _Rest(self.spec.to_json(), self.submitted, self.deadline, self.context, self.traceparent, self.wanted)
        pixels = str(self.spec.viewport.pixels)
        return {"pixels": pixels, "id": self.id, "reply": self.reply, "request": _encoder.encode(rest)}

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> "RenderRequest":
        """The inverse of :meth:`to_fields`. Raises ValueError, KeyError, TypeError or MsgspecError for other fields."""
        rest = _rest_decoder.decode(fields[b"request"])
        spec = RenderSpec.from_json(rest.spec)
        id_, reply = fields[b"id"].decode(), fields[b"reply"].decode()
        return cls(id_, spec, rest.submitted, rest.deadline, reply, rest.context, rest.traceparent, rest.wanted)


class _Rest(msgspec.Struct, array_like=True):
    spec: str
    submitted: float
    deadline: float
    context: Mapping[str, str]
    traceparent: str
    wanted: Wanted = "image"


class ReplyHeader(msgspec.Struct, frozen=True, array_like=True):
    """What a reply says about the request ``id``: how it was rendered, or why that failed.

    MessagePack of it is the field's name, and the image the field's value, empty if there is none.
    """

    id: str
    render_seconds: float = 0.0
    encode_seconds: float = 0.0
    arithmetic: str = ""
    failure: FailureKind | None = None
    message: str = ""
    field: str | None = None

    @classmethod
    def of_failure(cls, id_: str, failure: RenderFailed) -> "ReplyHeader":
        return cls(id_, failure=failure.kind, message=str(failure), field=failure.field)

    def encode(self) -> bytes:
        return _encoder.encode(self)

    @classmethod
    def decode(cls, name: bytes) -> "ReplyHeader":
        """Raises msgspec.MsgspecError for other fields."""
        return _decoder.decode(name)


_encoder = msgspec.msgpack.Encoder()
_decoder, _rest_decoder = msgspec.msgpack.Decoder(ReplyHeader), msgspec.msgpack.Decoder(_Rest)

Reply = tuple[ReplyHeader, bytes]
"""A header and the encoded image."""


async def live_workers(redis: "Redis") -> list[WorkerInfo]:
    """The workers whose heartbeat has not expired, ordered by id."""
    members: Any = await redis.smembers(WORKERS)
    ids = sorted(member.decode() for member in members)
    found = await redis.mget([worker_key(id_) for id_ in ids]) if ids else []
    return [WorkerInfo.from_json(text) for text in found if text is not None]
