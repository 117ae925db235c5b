"""Work that several ask for at once, done once in this process."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.queue import stop_task

Result = TypeVar("Result")


@dataclass(eq=False)
class _Flight(Generic[Result]):
    task: "asyncio.Task[Result]"
    waiting: int = 0


class SingleFlight(Generic[Result]):
    """The work under way, by key. The name is that of Go's package."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[Result]] = {}

    def __contains__(self, key: str) -> bool:
        """Whether :meth:`do` would wait for work that is under way already."""
        return key in self._flights

    async def do(self, key: str, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result, or the error, of ``work`` or of what is under way under the same key.

        The work belongs to all who wait for it: it goes on until the last of them is cancelled.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(work()))
            flight.task.add_done_callback(lambda _: self._end(key, flight))
        flight.waiting += 1
        try:
            await asyncio.wait((flight.task,))
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._end(key, flight)  # at once: who asks from now on must not join what is being cancelled
                await stop_task(flight.task)
        return flight.task.result()

    def _end(self, key: str, flight: _Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # perhaps nobody asks for it any more
