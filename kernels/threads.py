"""Tasks of threads that render parts of an image in parallel."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
        """Wait for all tasks and yield the cost of each as it ends. Raises the first error of a task."""
        for future in as_completed(self._costs):
            future.result()
            yield self._costs[future]
