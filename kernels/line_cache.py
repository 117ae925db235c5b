"""Cache of line bundles, for further tiles, crops and requests of the same image."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor

from model.util.memory import memory_limit

CACHE_BYTES = 256 * 2**20
"""Half of it holds the columns of an image 18,724 pixels wide of the paper's 512 model, or 37,449 in fp16."""

MEMORY_SHARE = 16
"""A CPU's cache takes this part of the memory, where that is more than CACHE_BYTES and no more than MAX_BYTES."""

MAX_BYTES = 2 * 2**30
"""Half of it holds the columns of an image 149,796 pixels wide of the paper's 512 model."""


class LineCache:
    """Thread-safe LRU cache of tensors, limited to ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._entries: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Tensor | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: Hashable, lines: Tensor) -> None:
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = lines
            self.bytes += lines.untyped_storage().nbytes()
            while self.bytes > self.limit:
                _, oldest = self._entries.popitem(last=False)
                self.bytes -= oldest.untyped_storage().nbytes()

    def remove(self, owner: object) -> None:
        """Remove the entries whose key begins with ``owner``."""
        with self._lock:
            for key in [key for key in self._entries if isinstance(key, tuple) and key[0] is owner]:
                self.bytes -= self._entries.pop(key).untyped_storage().nbytes()

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.bytes = 0


@functools.cache
def host_cache() -> LineCache:
    """The cache in the host's memory, which all models of a process share."""
    return LineCache(min(max(memory_limit() // MEMORY_SHARE, CACHE_BYTES), MAX_BYTES))
