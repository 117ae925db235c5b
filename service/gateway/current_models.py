"""The catalog as requests see it: never more than a moment old, and never in their way."""

import time

from fastapi.concurrency import run_in_threadpool

from model.checkpoint import Checkpoint
from model.errors import InputError
from service.catalog import Catalog, find

LOOK_SECONDS = 1.0
"""How old the last look at the files may be. A look costs more than all the rest that the gateway does."""


class CurrentModels:
    """Looks at the files in a thread, since the digest of a new one takes as long as reading it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._models: list[Checkpoint] = []
        self._looked = -LOOK_SECONDS

    async def all(self) -> list[Checkpoint]:
        """All checkpoints that can be served, ordered by name."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            return await self._look()
        return self._models

    async def resolve(self, name_or_digest: str) -> Checkpoint:
        """The checkpoint of that name or digest; one that has just come is found. Raises InputError as ``find``."""
        try:
            return find(await self.all(), name_or_digest)
        except InputError:
            return find(await self._look(), name_or_digest)

    async def _look(self) -> list[Checkpoint]:
        started = time.monotonic()
        self._models = await run_in_threadpool(self._catalog.models)
        self._looked = started
        return self._models
