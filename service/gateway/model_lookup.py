"""The catalog of checkpoints for requests: at most a moment old, without waiting for new files to be read."""

import asyncio
import logging
import time

from fastapi.concurrency import run_in_threadpool

from model.checkpoint import Checkpoint
from model.errors import InputError
from service.gateway.errors import UnknownModelError
from service.models.catalog import Catalog, find

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
"""How long a list of checkpoints is used. Listing the files costs more than everything else in a request."""

WAIT_SECONDS = 0.1
"""How long a request waits for a refresh. It takes a millisecond, unless there is a new file, whose digest takes
reading all of it: then requests get the previous list."""


class ModelLookup:
    """Refreshes the list of checkpoints in a thread, once for all requests that need it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._models: list[Checkpoint] | None = None
        self._refreshed = -REFRESH_SECONDS
        """When the last refresh that has ended began."""
        self._began = 0.0
        self._refreshing: asyncio.Task[list[Checkpoint]] | None = None

    async def all(self) -> list[Checkpoint]:
        """All checkpoints, ordered by name; without new ones while those are read."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            refreshing = self._refresh()
            if self._models is None:
                return await asyncio.shield(refreshing)
            await asyncio.wait([refreshing], timeout=max(self._began + WAIT_SECONDS - time.monotonic(), 0.0))
        return self._models or []

    async def resolve(self, name_or_digest: str) -> Checkpoint:
        """Find a checkpoint, also a new one, by name or digest. Raises UnknownModelError, which lists the models."""
        requested, models = time.monotonic(), await self.all()
        while True:
            try:
                return find(models, name_or_digest)
            except InputError as error:
                if self._refreshed >= requested:
                    raise UnknownModelError(error.field, error.message) from None
            models = await asyncio.shield(self._refresh())  # a second time if the running one began before the request

    def _refresh(self) -> "asyncio.Task[list[Checkpoint]]":
        """The running refresh, or a new one. It goes on if the requests that wait for it are cancelled."""
        if self._refreshing is None or self._refreshing.done():
            self._began = time.monotonic()
            self._refreshing = asyncio.create_task(self._refresh_now(self._began))
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())  # it has been logged
        return self._refreshing

    async def _refresh_now(self, began: float) -> list[Checkpoint]:
        try:
            self._models = await run_in_threadpool(self._catalog.models)
        except Exception:
            logger.exception("listing the checkpoints failed")
            raise
        finally:
            self._refreshed = began
        return self._models
