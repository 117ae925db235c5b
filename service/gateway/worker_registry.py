"""Tracks live workers."""

import time

from service.gateway.errors import UnavailableError
from service.gateway.single_flight import SingleFlight
from service.queue.client import RenderClient
from service.queue.messages import WorkerInfo

REFRESH_SECONDS = 1.0
"""How long a list of workers is used."""

NO_WORKER_GRACE = 30.0
"""How long images are still queued after the list was first found empty: time for a worker to start."""


class WorkerRegistry:
    """The live workers in Redis. Refuses images if there has been none for NO_WORKER_GRACE."""

    def __init__(self, client: RenderClient) -> None:
        self._client = client
        self._workers: list[WorkerInfo] = []
        self._refreshed = -REFRESH_SECONDS
        self._empty_since: float | None = None
        self._looks = SingleFlight[list[WorkerInfo]]()

    async def refresh(self) -> list[WorkerInfo]:
        """The live workers now. Raises redis.exceptions.RedisError, at once if the queue is known to be lost."""
        self._client.require()
        began = time.monotonic()
        self._workers = await self._client.workers()
        self._refreshed = began  # after the answer: until then the list is stale for other requests, too
        if self._workers:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = time.monotonic()
        return self._workers

    async def recent(self) -> list[WorkerInfo]:
        """The live workers, at most REFRESH_SECONDS old. Requests that need a new list wait for the same one."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            return (await self._looks.do("workers", self.refresh))[0]
        return self._workers

    async def require(self) -> None:
        """Raise UnavailableError if no worker is alive."""
        await self.recent()
        if self._empty_since is not None and time.monotonic() - self._empty_since > NO_WORKER_GRACE:
            raise UnavailableError("no worker is alive")
