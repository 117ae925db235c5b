"""The directions of models, as workers have found and stored them."""

from collections import OrderedDict
from collections.abc import Mapping

import obstore
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.latents.direction import Direction, decode_directions
from service.gateway.errors import UnavailableError
from service.imaging.object_store import Store
from service.queue.directions import DirectionRequests, directions_path

CACHED = 16
"""Models whose directions are in memory: less than a megabyte each."""


class DirectionStore:
    """Reads the directions of models, and asks workers for those that nobody has needed yet."""

    def __init__(self, store: Store, redis: "Redis") -> None:
        self._store = store
        self._requests = DirectionRequests(redis)
        self._cache: OrderedDict[str, Mapping[str, Direction]] = OrderedDict()

    async def get(self, checkpoint: Checkpoint) -> Mapping[str, Direction]:
        """The directions of a model by name, SeFa before PCA, each strongest first.

        Raises UnavailableError until they have been found, STORE_ERRORS and RedisError.
        """
        digest = checkpoint.digest
        if digest not in self._cache:
            self._cache[digest] = await self._read(checkpoint)
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(digest)
        return self._cache[digest]

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
