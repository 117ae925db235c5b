"""Projections: searches for the latent of a picture. They are kept in Redis, and claimed by workers."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import obstore
from redis.asyncio import Redis

from service.imaging.object_store import Store
from service.jobs.repository import NoSuchJobError, TooManyJobsError
from service.jobs.status import UNFINISHED, State
from service.runtime.redis import register_script
from service.runtime.redis_keys import PROJECTIONS, projection_key, projection_lock_key

MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Projection:
    """A search that a client has ordered.

    Attributes:
        id: 32 hex digits, random.
        model: digest of the checkpoint.
        class_index: look among the images of a class.
        created: unix seconds.
        owner: whose API key ordered it; None if no key was needed.
        has_mask: whether a mask tells which pixels of the picture are known.
    """

    id: str
    model: str
    model_name: str
    steps: int
    class_index: int | None
    created: float
    owner: str | None = None
    has_mask: bool = False

    @property
    def files(self) -> dict[str, str]:
        """The objects that hold ``picture`` and, if there is one, ``mask``, while they are needed."""
        picture = f"projections/{self.id}"
        return {"picture": picture} | ({"mask": f"{picture}-mask"} if self.has_mask else {})


@dataclass(frozen=True)
class ProjectionStatus:
    """How far a projection is. ``latent`` is the id of the best latent so far; ``psnr`` is in dB, once it has ended."""

    projection: Projection
    state: State
    done: int = 0
    latent: str | None = None
    psnr_w: float | None = None
    psnr: float | None = None
    error: str | None = None
    finished: float | None = None

    @property
    def ended(self) -> bool:
        return self.state not in UNFINISHED


class ProjectionRepository:
    """Every method may raise redis.exceptions.RedisError. Ended projections are forgotten after ``days``."""

    def __init__(self, redis: "Redis", days: float) -> None:
        self._redis = redis
        self._seconds = round(days * 86_400)
        self._create, self._start, self._settle = (
            register_script(redis, "service.jobs", f"{name}_projection") for name in ("create", "start", "settle")
        )

    async def create(self, projection: Projection, limit: int) -> None:
        """Queue a projection. Raises TooManyJobsError if ``limit`` are unfinished."""
        order = json.dumps(asdict(projection))
        keys = [projection_key(projection.id), PROJECTIONS]
        if not await self._create(keys=keys, args=[projection.id, order, projection.created, self._seconds, limit]):
            raise TooManyJobsError(limit)

    async def status(self, projection_id: str) -> ProjectionStatus:
        """Raises NoSuchJobError if it is unknown, or forgotten."""
        fields: Any = await self._redis.hgetall(projection_key(projection_id))
        if b"order" not in fields:
            raise NoSuchJobError
        return _parse(fields)

    async def claim(self, seconds: float) -> tuple[Projection, int] | None:
        """The oldest projection that no worker works on, to work on for so long, and how often it was claimed; None if
        there is none. After MAX_ATTEMPTS it is to be given up: it may be what killed the other workers."""
        members: Any = await self._redis.zrange(PROJECTIONS, 0, -1)
        for projection_id in (member.decode() for member in members):
            lock, key = projection_lock_key(projection_id), projection_key(projection_id)
            if not await self._redis.set(lock, 1, nx=True, px=round(1000 * seconds)):
                continue
            if attempts := await self._start(keys=[key]):
                return (await self.status(projection_id)).projection, attempts
            await self._redis.zrem(PROJECTIONS, projection_id)  # it has ended meanwhile, or is forgotten
            await self._redis.delete(lock)
        return None

    async def keep(self, projection_id: str, seconds: float) -> bool:
        """Go on working on a claimed projection. False if it has been cancelled meanwhile."""
        if (await self._redis.hget(projection_key(projection_id), "state")) not in (b"queued", b"running"):
            return False
        await self._redis.set(projection_lock_key(projection_id), 1, px=round(1000 * seconds))
        return True

    async def report(self, projection_id: str, done: int, latent: str | None) -> None:
        """Note how far a projection is, and the best latent if there is a new one."""
        fields: Any = {"done": done} if latent is None else {"done": done, "latent": latent}
        await self._redis.hset(projection_key(projection_id), mapping=fields)

    async def end(self, projection_id: str, state: State, **fields: str | float) -> bool:
        """End a projection. False if it has ended already."""
        values = {"state": state, "finished": time.time()} | fields
        flat = [str(each) for pair in values.items() for each in pair]
        keys = [projection_key(projection_id), PROJECTIONS, projection_lock_key(projection_id)]
        return bool(await self._settle(keys=keys, args=[projection_id, *flat]))

    async def release(self, projection_id: str) -> None:
        """Leave a claimed projection to other workers, as if it had not been claimed."""
        await self._redis.hincrby(projection_key(projection_id), "attempts", -1)
        await self._redis.delete(projection_lock_key(projection_id))


async def delete_files(store: Store, projection: Projection) -> None:
    """Delete the picture and mask of a projection that has ended. Raises STORE_ERRORS."""
    for path in projection.files.values():
        with contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(store, path)


def _parse(fields: Mapping[bytes, bytes]) -> ProjectionStatus:
    texts: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
    numbers = {name: float(texts[name]) for name in ("psnr_w", "psnr", "finished") if name in texts}
    return ProjectionStatus(
        Projection(**json.loads(texts["order"])),
        texts["state"],
        int(texts.get("done", 0)),
        texts.get("latent"),
        error=texts.get("error"),
        **numbers,
    )
