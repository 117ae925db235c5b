"""Threads that encode the images of a batch."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Result = TypeVar("Result")


async def as_ready(
    jobs: Sequence[Callable[[], Result]], executor: Executor, threads: int
) -> AsyncIterator[list[Result]]:
    """Runs jobs in up to ``threads`` threads and yields their results, together those that are ready at the same time.

    There is no future for each job: they cost more than what the service does for an image otherwise. Jobs must not
    raise.
    """
    batch = _Batch(jobs, executor, threads)
    left = len(jobs)
    while left:
        if ready := await batch.wait():
            left -= len(ready)
            yield ready


class _Batch(Generic[Result]):
    def __init__(self, jobs: Sequence[Callable[[], Result]], executor: Executor, threads: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting, self._ready = deque(jobs), deque[Result]()
        self._executor, self._threads = executor, threads
        self._woken, self._waking = asyncio.Event(), False
        if jobs:
            self._start_thread()

    async def wait(self) -> list[Result]:
        """The results that have become ready. Now and then there is none: the last call had it already."""
        await self._woken.wait()
        self._woken.clear()
        self._waking = False  # before the results are taken: a later one wakes again
        return [self._ready.popleft() for _ in range(len(self._ready))]

    def _start_thread(self) -> None:
        if self._threads:
            self._threads -= 1
            self._executor.submit(self._work)

    def _work(self) -> None:
        """Runs in a thread. Starts another one while there is more to do: small jobs are done before it has begun."""
        if len(self._waiting) > 1:
            self._start_thread()
        while self._waiting:
            try:
                job = self._waiting.popleft()
            except IndexError:  # another thread has taken it
                return
            self._ready.append(job())
            if not self._waking:
                self._waking = True
                self._loop.call_soon_threadsafe(self._woken.set)
