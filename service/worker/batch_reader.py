"""Reads the queue for a worker: what dead workers left, and the next batch shortly before it is needed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.queue.consumer import BatchLimit, Consumer, QueuedRender, QueueEntry
from service.runtime.redis_keys import BATCH, IMAGES, TILES
from service.worker.model_cache import ModelCache
from service.worker.tile_processor import Tile, TileProcessor

BATCH_PIXELS = 1 << 22
"""Pixels of one batch. More at once would only be kept from other workers."""

READ_AHEAD_SECONDS = 0.003
"""The next batch is read this long before the current one is expected to be rendered, so that the device does not wait
for Redis. Earlier, it would be smaller, and kept from other workers; after shorter batches it is read when they end."""

TILE_SECONDS, MAX_TILES = 0.5, 64
"""Rendering time of one batch of tiles, estimated from the slowest model's speed, and its largest number of tiles."""

_NO_TILES = {TILES: BatchLimit(0, 0)}


@dataclass(frozen=True)
class Batch:
    """What was read. ``suspect``: a dead worker held it, and it may be what killed that worker."""

    entries: Sequence[QueueEntry]
    suspect: bool = False


class BatchReader:
    """The batches of a worker.

    Args:
        images: most images in a batch.
        claim_seconds: between two searches for entries of dead workers.
    """

    def __init__(
        self, consumer: Consumer, models: ModelCache, tiles: TileProcessor, *, images: int, claim_seconds: float
    ) -> None:
        self._consumer, self._models, self._tiles = consumer, models, tiles
        self._images = BatchLimit(images, BATCH_PIXELS)
        self._claim_seconds = claim_seconds
        self._next_claim = 0.0
        self._ahead: asyncio.Task[list[QueueEntry]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def read(self) -> Batch:
        """What was read ahead, an entry of a dead worker, or the next batch: empty if nothing comes for a while."""
        if ahead := await self.take_ahead():
            return Batch(ahead)
        if time.monotonic() >= self._next_claim:
            if suspect := await self._consumer.claim_stale():
                return Batch([suspect], suspect=True)
            self._next_claim = time.monotonic() + self._claim_seconds
        return Batch(await self._consumer.read(self._limits()))

    def read_ahead(self, items: Sequence[QueuedRender | Tile]) -> None:
        """Read the next batch of images while ``items`` are rendered, if their time is known, and if nothing else is
        to be done first."""
        rate = self._models.rates.get(items[0].spec.model)
        if rate and time.monotonic() < self._next_claim:
            left = sum(item.spec.viewport.pixels for item in items) / rate - READ_AHEAD_SECONDS
            if left > 0:
                self._timer = asyncio.get_running_loop().call_later(left, self._read_now)

    async def take_ahead(self) -> list[QueueEntry]:
        """What was read ahead, if anything."""
        if self._timer is not None:
            self._timer.cancel()
        if self._ahead is None:
            return []
        reading, self._ahead = self._ahead, None
        return await reading

    def _read_now(self) -> None:
        self._ahead = self._ahead or asyncio.create_task(self._consumer.read_waiting(self._limits() | _NO_TILES))

    def _limits(self) -> dict[str, BatchLimit]:
        """Limits of one read. Tiles are limited by time, since an image that comes meanwhile waits for them.

        Which model they need is known only when they are read, so the slowest is assumed.
        """
        images = {IMAGES: self._images, BATCH: self._images}
        if self._tiles.has_groups:
            return images | _NO_TILES
        pixels = round(TILE_SECONDS * min(self._models.rates.values(), default=0.0))
        return images | {TILES: BatchLimit(MAX_TILES, min(max(pixels, 1), BATCH_PIXELS))}
