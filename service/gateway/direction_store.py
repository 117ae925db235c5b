"""The directions of models, as workers have found and stored them."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import obstore
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.direction import Direction, decode_directions
from model.latents.direction_names import names_path, read_labels, with_labels
from service.gateway.errors import UnavailableError
from service.imaging.object_store import Store
from service.queue.directions import DirectionRequests, directions_path

logger = logging.getLogger(__name__)

CACHED = 16
"""Models whose directions are in memory: less than a megabyte each."""


@dataclass
class _Known:
    """The directions of a model as found, and with the names of a file with that modification time and size."""

    found: Mapping[str, Direction]
    stamp: tuple[int, int] | None = None
    labelled: Mapping[str, Direction] = field(default_factory=dict)


class DirectionStore:
    """Reads the directions of models, and asks workers for those that nobody has needed yet."""

    def __init__(self, store: Store, redis: "Redis") -> None:
        self._store = store
        self._requests = DirectionRequests(redis)
        self._cache: OrderedDict[str, _Known] = OrderedDict()

    async def get(self, checkpoint: Checkpoint) -> Mapping[str, Direction]:
        """The directions of a model by name, SeFa before PCA, each strongest first, with the names that are in the file
        beside its checkpoint.

        Raises UnavailableError until they have been found, STORE_ERRORS and RedisError.
        """
        digest = checkpoint.digest
        if digest not in self._cache:
            self._cache[digest] = _Known(await self._read(checkpoint))
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(digest)
        return await asyncio.to_thread(_label, self._cache[digest], checkpoint)

    async def _read(self, checkpoint: Checkpoint) -> Mapping[str, Direction]:
        path = directions_path(checkpoint.digest)
        try:
            content = bytes(await (await obstore.get_async(self._store, path)).bytes_async())
            return decode_directions(content, checkpoint.config)
        except FileNotFoundError:
            pass
        except ValueError:
            await obstore.delete_async(self._store, path)  # damaged: a worker finds them again
        if await self._requests.add(checkpoint.digest):
            raise UnavailableError(f"a worker is looking for the directions of {checkpoint.name}; try again")
        raise UnavailableError(f"the directions of {checkpoint.name} could not be found; the worker's log tells why")


def _label(known: _Known, checkpoint: Checkpoint) -> Mapping[str, Direction]:
    """Reads the file of names if it has changed. One that is invalid is logged once, and not used."""
    try:
        status = names_path(checkpoint).stat()
    except OSError:  # mostly, there is none
        return known.found
    stamp = status.st_mtime_ns, status.st_size
    if known.stamp != stamp:
        try:
            known.labelled = with_labels(known.found, read_labels(checkpoint))
        except (InputError, OSError) as error:
            logger.warning("the names of directions of %s are not used: %s", checkpoint.name, error)
            known.labelled = known.found
        known.stamp = stamp
    return known.labelled
