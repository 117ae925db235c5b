"""Whether anybody is there to draw."""

import time

from service.gateway.errors import UnavailableError
from service.queue import WorkerInfo
from service.render_client import RenderClient

LOOK_SECONDS = 1.0
"""How old the last look at the workers may be for a picture to be queued on its strength."""

GRACE_SECONDS = 30.0
"""How long pictures are still queued after the last live worker was seen: time for one to start, or start again."""


class Workers:
    """The live workers, as Redis tells."""

    def __init__(self, client: RenderClient) -> None:
        self._client = client
        self._looked = -LOOK_SECONDS
        self._found: list[WorkerInfo] = []
        self._last_seen = time.monotonic()

    async def look(self) -> list[WorkerInfo]:
        """The live workers now. Raises redis.exceptions.RedisError, at once where the queue is known to be lost."""
        self._client.require()
        self._looked = time.monotonic()
        self._found = await self._client.workers()
        if self._found:
            self._last_seen = time.monotonic()
        return self._found

    async def recent(self) -> list[WorkerInfo]:
        """The live workers as of a moment ago."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            return await self.look()
        return self._found

    async def require(self) -> None:
        """Raises UnavailableError where a picture would wait in vain. Asks Redis once a second at most."""
        await self.recent()
        if time.monotonic() - self._last_seen > GRACE_SECONDS:
            raise UnavailableError("no worker is alive")
