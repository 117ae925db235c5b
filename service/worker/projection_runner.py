"""Serves projections, one at a time, in a process of its own."""

import asyncio
import base64
import contextlib
import json
import logging
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import obstore
from redis.asyncio import Redis
from redis.exceptions import RedisError

from model.errors import InputError
from model.latents.latent import Latent
from service.imaging.object_store import STORE_ERRORS, Store
from service.jobs.projections import MAX_ATTEMPTS, Projection, ProjectionRepository, delete_files
from service.models.catalog import Catalog
from service.models.latent_store import LatentStore
from service.worker.child_process import run_module

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0

CLAIM_SECONDS = 30.0
"""After so long without a sign another worker takes over, from the beginning."""


class ProjectionRunner:
    """Claims projections and runs them."""

    def __init__(self, redis: "Redis", catalog: Catalog, store: Store) -> None:
        self._projections = ProjectionRepository(redis, days=1)
        self._latents = LatentStore(store, days=1)  # which only puts: gateways delete
        self._catalog = catalog
        self._store = store

    async def run(self) -> None:
        """Polls for projections for ever."""
        while True:
            with contextlib.suppress(RedisError):  # the worker's other tasks log it
                if claimed := await self._projections.claim(CLAIM_SECONDS):
                    await self._serve(*claimed)
            await asyncio.sleep(POLL_SECONDS)

    async def _serve(self, projection: Projection, attempt: int) -> None:
        if attempt > MAX_ATTEMPTS:
            error = f"it was given up after {MAX_ATTEMPTS} attempts"
            await self._projections.end(projection.id, "failed", error=error)
        else:
            await self._work_on(projection)
        with contextlib.suppress(*STORE_ERRORS):
            await delete_files(self._store, projection)

    async def _work_on(self, projection: Projection) -> None:
        working = asyncio.create_task(self._project(projection))
        try:
            while not working.done():
                await asyncio.wait([working], timeout=POLL_SECONDS)
                if not await self._projections.keep(projection.id, CLAIM_SECONDS):
                    break  # it has just ended, or was cancelled
            if working.done():
                await working
        except (InputError, RuntimeError, *STORE_ERRORS) as error:
            logger.error("projection %s failed: %s", projection.id, error)
            known = isinstance(error, InputError)
            reason = str(error) if known else "the worker met an unexpected error; its log tells more"
            await self._projections.end(projection.id, "failed", error=reason)
        except asyncio.CancelledError:
            with contextlib.suppress(RedisError):
                await self._projections.release(projection.id)
            raise
        finally:
            while not working.done():  # the process is to end, however often this is cancelled (stop_task)
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([working], timeout=0.1)

    async def _project(self, projection: Projection) -> None:
        """Raises InputError if the picture or model cannot be used, RuntimeError if the process fails."""
        checkpoint = await asyncio.to_thread(self._catalog.resolve, projection.model)
        with TemporaryDirectory(prefix="creps-projection-") as folder:
            for name, path in projection.files.items():
                found = await obstore.get_async(self._store, path)
                (Path(folder) / name).write_bytes(bytes(await found.bytes_async()))
            arguments = [str(checkpoint.path), projection.model, folder, str(projection.steps)]
            if projection.class_index is not None:
                arguments.append(str(projection.class_index))
            async with aclosing(run_module("service.worker.project_picture", *arguments)) as lines:
                async for line in lines:
                    await self._note(projection, json.loads(line))

    async def _note(self, projection: Projection, told: dict[str, Any]) -> None:
        """What the process has told. Raises InputError if it refused the picture or mask."""
        if "error" in told:
            raise InputError(told["field"], told["error"])
        latent = None
        if "w" in told:
            latent, _ = await self._latents.put(Latent(w=base64.b64decode(told["w"])), projection.model)
        await self._projections.report(projection.id, told["done"], latent)
        if "psnr" in told:
            await self._projections.end(projection.id, "succeeded", psnr_w=told["psnr_w"], psnr=told["psnr"])
