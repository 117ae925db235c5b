"""Progress of work over many images, on stderr: a tqdm bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

DELAY = 2.0
"""Seconds of work before the bar appears."""

LINE_INTERVAL = 20.0
"""Seconds between two lines where there is no bar."""


def progress(items: Iterable[T], total: int, task: str, step: int = 1, unit: str = "img") -> Iterator[T]:
    """Yields the items, each of which counts as ``step``, and shows how many of ``total`` are done."""
    start = last_line = time.monotonic()
    bar: Any = None
    try:
        for done, item in enumerate(items):
            now = time.monotonic()
            # tqdm's own delay would leave half a bar behind if a line is printed meanwhile.
            if bar is None and now - start >= DELAY:
                bar = open_bar(task, total, done * step, unit)
            if bar is None and now - last_line >= LINE_INTERVAL:
                last_line = now
                say(f"{task}: {done * step:,} of {total:,} {unit}")
            yield item
            if bar is not None:
                bar.update(step)
    finally:
        if bar is not None:
            bar.close()


class PartTeller:
    """Prints how many parts of some work are done, at most every LINE_INTERVAL seconds.

    For work that calls back where it cannot be a loop over :func:`progress`.
    """

    def __init__(self, task: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._task, self._unit, self._clock = task, unit, clock
        self._last_line = clock()

    def __call__(self, done: int, total: int) -> None:
        if self._clock() - self._last_line >= LINE_INTERVAL:
            self._last_line = self._clock()
            say(f"{self._task}: {done} of {total} {self._unit}")


def say(text: str) -> None:
    """Prints a line on stderr, above the bar."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(text, file=sys.stderr, flush=True)
    else:
        tqdm.write(text, file=sys.stderr)


def open_bar(task: str, total: int, done: int, unit: str = "img") -> Any:
    """A tqdm bar, to be closed by the caller. None without a terminal, or without tqdm, as on a bare machine."""
    if sys.stderr.isatty():
        with suppress(ImportError):
            from tqdm import tqdm

            return tqdm(desc=task, total=total, initial=done, unit=unit, dynamic_ncols=True)
    return None
