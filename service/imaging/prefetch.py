"""A map in threads with bounded lookahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], limit: int) -> Iterator[Result]:
    """The results in order, with at most ``limit`` computed ahead of the consumer. (Executor.map computes all.)"""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
