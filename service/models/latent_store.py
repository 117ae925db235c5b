"""Latents that clients have uploaded, kept in the object store under names that are digests of model and values."""

import asyncio
import contextlib
import hashlib
import json
import logging
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

import obstore

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.latent import Latent
from service.imaging.object_store import STORE_ERRORS, Store

logger = logging.getLogger(__name__)

FOLDER, PICTURES = "latents", "projections"
"""Folders of latents and of pictures that are projected; the latter are mostly deleted sooner."""

SWEEP_SECONDS = 3600.0
"""Between two searches for expired latents. Every gateway searches: deleting twice does no harm."""

CACHED = 256
"""Latents in memory: viewers request hundreds of tiles of one. Each has up to 256 KiB, and mostly a tenth of it."""


class UnknownLatentError(InputError):
    """No latent with this id is stored, or it has expired."""


class LatentStore:
    """Stores latents for ``days`` after they were uploaded last. Methods raise STORE_ERRORS if the store fails."""

    def __init__(self, store: Store, days: float) -> None:
        self._store = store
        self._lifetime = timedelta(days=days)
        self._cache: OrderedDict[str, tuple[str, Latent, datetime]] = OrderedDict()

    async def put(self, latent: Latent, digest: str) -> tuple[str, datetime]:
        """Store a latent of the model with this digest. Returns its id and when it expires."""
        values = {"model": digest, "latent": latent.to_dict()}
        content = json.dumps(values, sort_keys=True).encode()
        latent_id = f"lat_{hashlib.sha256(content).hexdigest()[:32]}"
        await obstore.put_async(self._store, _path(latent_id), content)  # also if it exists: that renews it
        self._cache.pop(latent_id, None)
        return latent_id, datetime.now(UTC) + self._lifetime

    async def get(self, latent_id: str, checkpoint: Checkpoint, field: str = "latent.id") -> Latent:
        """A stored latent. Raises UnknownLatentError, and InputError for ``field`` if it is of another model."""
        if latent_id not in self._cache:
            self._cache[latent_id] = await self._read(latent_id, field)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        model, latent, expires = self._cache[latent_id]
        self._cache.move_to_end(latent_id)
        if expires < datetime.now(UTC):
            del self._cache[latent_id]  # it may have been uploaded again at another gateway
            model, latent, expires = await self._read(latent_id, field)
            if expires < datetime.now(UTC):
                raise UnknownLatentError(field, f"{latent_id} has expired; upload it again")
        if model != checkpoint.digest:
            raise InputError(field, f"{latent_id} is a latent of another model, with digest {model}")
        return latent

    async def _read(self, latent_id: str, field: str) -> tuple[str, Latent, datetime]:
        try:
            found = await obstore.get_async(self._store, _path(latent_id))
            values = json.loads(bytes(await found.bytes_async()))
        except FileNotFoundError:
            raise UnknownLatentError(field, f"{latent_id} is unknown, or has expired; upload it again") from None
        return values["model"], Latent.from_dict(values["latent"]), found.meta["last_modified"] + self._lifetime

    async def run(self) -> None:
        """Deletes expired latents for ever, whatever fails."""
        while True:
            try:
                await self.sweep()
            except STORE_ERRORS as error:
                logger.warning("expired latents cannot be deleted: %s", str(error).partition("\n")[0])
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Deletes what has expired."""
        for folder in (FOLDER, PICTURES):
            async for objects in obstore.list(self._store, folder):
                for found in objects:
                    if found["last_modified"] + self._lifetime < datetime.now(UTC):
                        with contextlib.suppress(FileNotFoundError):
                            await self._delete_expired(found["path"])

    async def _delete_expired(self, path: str) -> None:
        """Deletes a latent unless it was uploaded again since it was listed."""
        if (await obstore.head_async(self._store, path))["last_modified"] + self._lifetime < datetime.now(UTC):
            await obstore.delete_async(self._store, path)


def _path(latent_id: str) -> str:
    return f"{FOLDER}/{latent_id}.json"
