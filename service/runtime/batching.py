"""Work that is asked for at about the same time, done together."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Passes the items of one turn of the event loop to one call of ``handle``, and those that are added while it runs
    to the next one.

    One command for ten requests costs Redis and redis-py little more than one for a single request. Batches grow with
    the load; an idle service waits for nothing. ``handle`` gets at most ``limit`` items and must not raise; it runs to
    its end even if the callers of :meth:`add` are cancelled.
    """

    def __init__(self, handle: Callable[[list[Item]], Coroutine[Any, Any, None]], limit: int = 1024) -> None:
        self._handle = handle
        self._limit = limit
        self._items: list[Item] = []
        self._running: asyncio.Task[None] | None = None

    def add(self, item: Item) -> None:
        if not self._items and self._running is None:
            asyncio.get_running_loop().call_soon(self._start)
        self._items.append(item)

    async def finish(self) -> None:
        """Waits until everything that was added has been handled."""
        while self._items or self._running:
            await (asyncio.wait([self._running]) if self._running else asyncio.sleep(0))

    def _start(self) -> None:
        items, self._items = self._items[: self._limit], self._items[self._limit :]
        self._running = asyncio.get_running_loop().create_task(self._handle(items))
        self._running.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._running = None
        if self._items:
            self._start()
