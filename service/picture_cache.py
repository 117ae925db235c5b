"""Pictures that are kept, or else drawn once where several ask for one at once, in one gateway or in many."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

from service import metrics
from service.picture_store import PictureStore
from service.queue import CacheOutcome, DeadlinePassed, Priority, RenderResult, stop_task
from service.single_flight import SingleFlight

LEASE_SECONDS = 3.0
"""How long others wait for a picture after the gateway that has it drawn was killed. It is renewed every third."""

MOST_UNKEPT = 64 << 20
"""Bytes of pictures that are answered and wait to be kept. A Redis on the same machine takes them in 0.1 to 0.2 s
(measured with pictures of 50 kB to 1 MB); where it is slower than the workers, what is drawn above it is not kept."""

FINISH_SECONDS = 5.0
"""How long a gateway that stops waits for them."""

_POLL_PART, _POLL_BOUNDS = 0.1, (0.01, 0.25)
"""Others look for the picture in steps of a tenth of the time that they have waited, of 10 to 250 ms."""


class PictureCache:
    """Pictures by keys that name their bytes for ever. A store that keeps none makes a cache that shares none."""

    def __init__(self, store: PictureStore) -> None:
        self.store = store
        self._flights = SingleFlight[RenderResult]()
        self._unkept: dict[str, bytes] = {}
        self._unkept_bytes = 0
        self._keeping = set[asyncio.Task[None]]()

    async def fetch(
        self,
        key: str,
        render: Callable[[float], Awaitable[RenderResult]],
        timeout: float,  # noqa: ASYNC109 - it travels along
        priority: Priority = "interactive",
    ) -> RenderResult:
        """The picture: from the store, from who is having it drawn already, or else from ``render``.

        Whoever waits for the same picture with the same priority in this process shares its outcome, errors too, but
        for the end of another's time; it is cancelled when all have left. Errors are not kept, and not told to other
        gateways, which then draw for themselves. So they do where a picture was too large to be kept.

        What was drawn is returned first and kept then. Until it is, whoever asks here gets it as a hit.

        Args:
            render: draws the picture within so many seconds, with this priority.
            timeout: seconds for all.

        Raises:
            DeadlinePassed: it, or another gateway's, was not ready in time. And what ``render`` raises.
        """
        if not self.store.limit:
            return await render(timeout)
        started, flight = time.monotonic(), f"{priority}:{key}"
        if (content := self._unkept.get(key)) is not None:
            _count("hit")
            return _found(content, started, "hit")
        if flight in self._flights:
            _count("shared")
        while True:
            joins, left = flight in self._flights, timeout - (time.monotonic() - started)
            obtaining = self._flights.do(flight, partial(self._obtain, key, flight, render, left))
            if not joins:
                return await obtaining
            try:
                async with asyncio.timeout(left):
                    result = await obtaining
            except TimeoutError:
                raise DeadlinePassed(f"another's picture was not ready within {timeout:g} s") from None
            except DeadlinePassed:
                if time.monotonic() - started >= timeout:
                    raise
                continue  # the time of the one who had it drawn is over, and ours is not
            return _found(result.content, started, "shared")

    async def finish(self) -> None:
        """Returns when all that was drawn is kept, or given up after FINISH_SECONDS."""
        if self._keeping:
            _, late = await asyncio.wait(self._keeping, timeout=FINISH_SECONDS)
            for task in late:
                await stop_task(task)

    async def _obtain(
        self, key: str, flight: str, render: Callable[[float], Awaitable[RenderResult]], limit: float
    ) -> RenderResult:
        started, token = time.monotonic(), uuid4().hex
        outcome: CacheOutcome = "hit"
        found = await self.store.get_or_lock(key, flight, token, LEASE_SECONDS)
        if found is False:
            outcome = "shared"
            await self._wait_for_other(flight, limit)
            found = await self.store.get_or_lock(key, flight, token, LEASE_SECONDS)
        if isinstance(found, bytes):
            _count(outcome)
            return _found(found, started, outcome)
        _count("miss")
        left = limit - (time.monotonic() - started)
        async with AsyncExitStack() as lock:
            if found:
                await lock.enter_async_context(self._lock(flight, token, left))
            result = await render(left)
            task = asyncio.create_task(self._keep(key, result.content, lock.pop_all()))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)
        return result

    async def _keep(self, key: str, content: bytes, lock: AsyncExitStack) -> None:
        async with lock:
            if self._unkept_bytes + len(content) > MOST_UNKEPT:
                return
            self._unkept[key] = content
            self._unkept_bytes += len(content)
            try:
                await self.store.put(key, content)
            finally:
                self._unkept.pop(key, None)
                self._unkept_bytes -= len(content)

    async def _wait_for_other(self, flight: str, limit: float) -> None:
        """Returns when the gateway that draws the picture has ended, whether or not the next one draws it by then: a
        picture that is not kept would else be waited for by one after the other."""
        started = time.monotonic()
        holder = await self.store.holder(flight)
        while holder is not None and await self.store.holder(flight) == holder:
            waited = time.monotonic() - started
            if waited > limit:
                raise DeadlinePassed(f"another gateway's picture was not ready within {limit:g} s")
            low, high = _POLL_BOUNDS
            await asyncio.sleep(min(max(_POLL_PART * waited, low), high))

    @asynccontextmanager
    async def _lock(self, flight: str, token: str, seconds: float) -> AsyncIterator[None]:
        """Renews our lease while the block runs, for some seconds at most, and gives it up at the end."""
        renewing = asyncio.create_task(self._renew(flight, token, time.monotonic() + seconds))
        try:
            yield
        finally:
            await _uninterrupted(self._give_up(renewing, flight, token))

    async def _give_up(self, renewing: "asyncio.Task[None]", flight: str, token: str) -> None:
        await stop_task(renewing)
        await self.store.lease(flight, token, 0)

    async def _renew(self, flight: str, token: str, end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(LEASE_SECONDS / 3)
            await self.store.lease(flight, token, LEASE_SECONDS)


async def _uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Ends with the work, however often the caller is cancelled meanwhile, as :func:`stop_task` does again and again
    while Redis takes its time."""
    task, cancelled = asyncio.create_task(work), False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()


def _count(outcome: CacheOutcome) -> None:
    metrics.CACHE_REQUESTS.labels(cache="pictures", result=outcome).inc()


def _found(content: bytes, started: float, outcome: CacheOutcome) -> RenderResult:
    """A picture that was not drawn for those who get it: all their time went in waiting."""
    return RenderResult(content, time.monotonic() - started, 0.0, 0.0, outcome)
