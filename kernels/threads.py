"""Threads that share a picture's work between them, instead of torch's own inside every operation."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

_starting = threading.Lock()


def single_operation_pool(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads each run torch's operations on one core, and leave every other thread as it was.

    Small operations run faster side by side than spread over the cores, and on one core an operation's result does not
    depend on how many there are.
    """
    return ThreadPoolExecutor(threads, thread_name_prefix="creps-render", initializer=_use_one_core)


def default_threads() -> int:
    """The cores that torch would use: those of the machine or the container, or OMP_NUM_THREADS."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(torch.get_num_threads(), available)


def _use_one_core() -> None:
    # torch.set_num_threads sets OpenMP's and MKL's number for the calling thread alone, but also the default that
    # threads started later take over. A short-lived thread puts that default back.
    with _starting:
        default = torch.get_num_threads()
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(default,))
        restore.start()
        restore.join()


class TaskGroup:
    """Tasks in a pool that are given up together: at the end of its ``with`` block none is waiting any more."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._costs: dict[Future[Any], int] = {}

    def __enter__(self) -> "TaskGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for future in self._costs:
            future.cancel()

    def submit(self, cost: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A task of some cost. The pool begins tasks in the order in which they are submitted."""
        future = self._pool.submit(function, *args, **kwargs)
        self._costs[future] = cost
        return future

    def completed(self) -> Iterator[int]:
        """Waits for all tasks and yields the cost of each as it ends. Raises the first error of a task."""
        for future in as_completed(self._costs):
            future.result()
            yield self._costs[future]
