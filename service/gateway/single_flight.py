"""Work that is requested several times at once and done once in this process."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from service.runtime.redis import stop_task

Result = TypeVar("Result")


@dataclass(eq=False)
class _Flight(Generic[Result]):
    task: "asyncio.Task[Result]"
    waiters: dict["asyncio.Future[None]", None] = field(default_factory=dict)
    """In the order of their callers, which they go on in."""


class SingleFlight(Generic[Result]):
    """Shares running work between callers with the same key. Named after Go's package.

    Args:
        leader_errors: errors that belong to the caller that started the work alone, such as its deadline. One of
            them ends the leader's turn; the next waiter leads and starts its own work. Other errors reach all waiters.
    """

    def __init__(self, *leader_errors: type[Exception]) -> None:
        self._flights: dict[str, _Flight[Result]] = {}
        self._leader_errors: tuple[type[BaseException], ...] = (asyncio.CancelledError, *leader_errors)

    def __contains__(self, key: str) -> bool:
        """Whether :meth:`do` would join running work."""
        return key in self._flights

    async def do(
        self, key: str, work: Callable[[], Coroutine[Any, Any, Result]], deadline: float = math.inf
    ) -> tuple[Result, bool]:
        """Returns the result of the work, and whether another caller led it.

        The work runs on when its leader is cancelled. It is cancelled with its last waiter. Raises TimeoutError at
        ``deadline``, in the event loop's time.
        """
        while True:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight(asyncio.create_task(work()))
                flight.task.add_done_callback(partial(self._end, key, flight))
            await self._wait(key, flight, deadline)
            try:
                return flight.task.result(), not leads
            except self._leader_errors:
                if leads:
                    raise

    async def _wait(self, key: str, flight: _Flight[Result], deadline: float) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        timer = None if deadline == math.inf else loop.call_at(deadline, _fail, done)
        flight.waiters[done] = None
        try:
            await done
        finally:
            if timer is not None:
                timer.cancel()
            del flight.waiters[done]
            if not flight.waiters and not flight.task.done():
                self._remove(key, flight)  # first, so that no new caller joins work that is being cancelled
                await stop_task(flight.task)

    def _end(self, key: str, flight: _Flight[Result], task: "asyncio.Task[Result]") -> None:
        self._remove(key, flight)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all waiters may have left
        for done in flight.waiters:
            if not done.done():
                done.set_result(None)

    def _remove(self, key: str, flight: _Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _fail(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
