"""Line bundles kept for the next tile, crop or request of the same picture."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor


class LineCache:
    """The most recently used tensors, up to ``limit`` bytes. Safe to use from several threads."""

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
            self.bytes += lines.nbytes
            while self.bytes > self.limit:
                _, oldest = self._entries.popitem(last=False)
                self.bytes -= oldest.nbytes

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self.bytes = 0
