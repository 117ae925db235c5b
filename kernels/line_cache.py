"""Cache of line bundles, for further tiles, crops and requests of the same image."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor

CACHE_BYTES = 256 * 2**20
"""Half of it holds the columns of an image 18,724 pixels wide of the paper's 512 model, or 37,449 in fp16."""


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

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.bytes = 0
