"""Tasks of threads that render parts of an image in parallel."""

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

POLL_SECONDS = 0.1
"""Between two looks at what has ended."""


class TaskGroup(AbstractContextManager["TaskGroup"]):
    """Tasks of a pool; those not started are cancelled at the end of the ``with`` block."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._costs: dict[Future[Any], int] = {}

    def __exit__(self, *error: object) -> None:
        for future in self._costs:
            future.cancel()

    def submit(self, cost: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a task of the given cost. The pool starts tasks in the order of submission."""
        future = self._pool.submit(function, *args, **kwargs)
        self._costs[future] = cost
        return future

    def completed(self) -> Iterator[int]:
        """Wait for all tasks and yield the costs of those that have ended. Raises the error of a task."""
        pending = set(self._costs)
        while pending:
            # Waking up for each task would take the interpreter from the threads that compute.
            ended, pending = wait(pending, POLL_SECONDS, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
                yield self._costs[future]
