"""Finds the directions of models that gateways ask for, in a process of its own: rendering goes on meanwhile."""

import asyncio
import contextlib
import logging
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.errors import InputError
from service.imaging.object_store import STORE_ERRORS, Store, exists, put_once
from service.models.catalog import Catalog
from service.queue.directions import DirectionRequests, directions_path
from service.worker.child_process import run_module

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0

CLAIM_SECONDS = 30.0
"""After so long without a sign another worker takes over."""


class DirectionFinder:
    """Serves requests for directions, one at a time."""

    def __init__(self, redis: "Redis", catalog: Catalog, store: Store, owner: str) -> None:
        self._requests = DirectionRequests(redis, owner)
        self._catalog = catalog
        self._store = store

    async def run(self) -> None:
        """Polls for requests for ever."""
        while True:
            with contextlib.suppress(RedisError):  # the worker's other tasks log it
                if digest := await self._requests.claim(CLAIM_SECONDS):
                    await self._serve(digest)
            await asyncio.sleep(POLL_SECONDS)

    async def _serve(self, digest: str) -> None:
        path, keeping = directions_path(digest), asyncio.create_task(self._keep(digest))
        try:
            if not await exists(self._store, path):
                await put_once(self._store, path, await self._find(digest))
            await self._requests.finish(digest, failed=False)
        except (InputError, RuntimeError, *STORE_ERRORS) as error:
            logger.error("the directions of model %s cannot be found: %s", digest, error)
            await self._requests.finish(digest, failed=True)
        except asyncio.CancelledError:
            with contextlib.suppress(RedisError):
                await self._requests.release(digest)
            raise
        finally:
            keeping.cancel()

    async def _keep(self, digest: str) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS / 3)
            with contextlib.suppress(RedisError):
                await self._requests.keep(digest, CLAIM_SECONDS)

    async def _find(self, digest: str) -> bytes:
        """The file of a model's directions. Raises InputError if it is not served, RuntimeError if none are found."""
        checkpoint = await asyncio.to_thread(self._catalog.resolve, digest)
        logger.info("looking for the directions of model %s", checkpoint.name)
        with TemporaryDirectory(prefix="creps-directions-") as folder:
            output = Path(folder) / "directions.npz"
            module = "service.worker.find_directions"
            async with aclosing(run_module(module, str(checkpoint.path), digest, str(output))) as lines:
                async for line in lines:
                    logger.debug("%s: %s", module, line.decode(errors="replace").rstrip())
            return output.read_bytes()
