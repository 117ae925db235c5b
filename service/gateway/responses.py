"""How much memory pictures may take that are drawn, and that their clients have not taken yet."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.gateway.errors import UnavailableError


class AnswersUnderWay:
    """The pictures that clients are taking from this gateway, or wait for it to turn. Those who share one share its
    memory.

    Args:
        limit: bytes of all together. One that is alone may be larger: that is a matter of the limit of pixels.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._holders = Counter[int]()

    def require_room(self) -> None:
        """Raises UnavailableError where half of the limit is taken: what is drawn now might not find room."""
        if 2 * self._bytes >= self._limit:
            raise self._full()

    @contextmanager
    def hold(self, content: bytes) -> Iterator[None]:
        """Counts a picture while the block runs. Raises UnavailableError, before it, where there is no room."""
        key = id(content)
        if key not in self._holders:
            if self._bytes and self._bytes + len(content) > self._limit:
                raise self._full()
            self._bytes += len(content)
        self._holders[key] += 1
        try:
            yield
        finally:
            self._holders[key] -= 1
            if not self._holders[key]:
                del self._holders[key]
                self._bytes -= len(content)

    def _full(self) -> UnavailableError:
        return UnavailableError(f"clients are taking pictures of {self._bytes} bytes, and the limit is {self._limit}")
