"""The catalog as requests see it: seldom more than a moment old, and never in their way for longer than that."""

import asyncio
import logging
import time

from fastapi.concurrency import run_in_threadpool

from model.checkpoint import Checkpoint
from model.errors import InputError
from service.catalog import Catalog, find

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How old the last look at the files may be. A look costs more than all the rest that the gateway does."""

WAIT_SECONDS = 0.1
"""How long requests wait for a look. It takes a millisecond, but longer where there is a new file, all of which is read
for its digest: then they have what was known before."""


class CurrentModels:
    """Looks at the files in a thread, once for all who ask meanwhile."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._models: list[Checkpoint] | None = None
        self._looked = -LOOK_SECONDS
        """When the last look that has ended began."""
        self._began = 0.0
        self._looking: asyncio.Task[list[Checkpoint]] | None = None

    async def all(self) -> list[Checkpoint]:
        """All checkpoints that can be served, ordered by name; without new ones while those are read."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            looking = self._look()
            if self._models is None:
                return await asyncio.shield(looking)
            await asyncio.wait([looking], timeout=max(self._began + WAIT_SECONDS - time.monotonic(), 0.0))
        return self._models or []

    async def resolve(self, name_or_digest: str) -> Checkpoint:
        """The checkpoint of that name or digest; one that has just come is found. Raises InputError as ``find``."""
        asked, models = time.monotonic(), await self.all()
        while True:
            try:
                return find(models, name_or_digest)
            except InputError:
                if self._looked >= asked:
                    raise
            models = await asyncio.shield(self._look())  # twice, where the one under way began before we were asked

    def _look(self) -> "asyncio.Task[list[Checkpoint]]":
        """The look that is under way, or else a new one. It goes on if those who wait for it leave."""
        if self._looking is None or self._looking.done():
            self._began = time.monotonic()
            self._looking = asyncio.create_task(self._look_now(self._began))
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())  # it has been logged
        return self._looking

    async def _look_now(self, began: float) -> list[Checkpoint]:
        try:
            self._models = await run_in_threadpool(self._catalog.models)
        except Exception:
            logger.exception("looking for checkpoints failed")
            raise
        finally:
            self._looked = began
        return self._models
