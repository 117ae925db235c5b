"""Progress of work over many pictures, on stderr: tqdm's bar where it is installed, else a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")

DELAY = 2.0
"""Seconds within which work ends without a word."""

INTERVAL = 10.0
"""Seconds between two lines where there is no bar."""


class _Bar(Protocol):
    def update(self) -> object: ...

    def close(self) -> object: ...


def progress(items: Iterable[T], total: int, task: str) -> Iterator[T]:
    """The items, while it is shown under the task's name how many of ``total`` have been done."""
    begun = time.monotonic()
    bar: _Bar | None = None
    try:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - begun >= DELAY:
                bar = _open_bar(task, total, done)
            yield item
            if bar is not None:
                bar.update()
    finally:
        if bar is not None:
            bar.close()


def say(text: str) -> None:
    """A line on stderr that does not tear the bar."""
    try:
        from tqdm import tqdm
    except ImportError:
        print(text, file=sys.stderr, flush=True)
    else:
        tqdm.write(text, file=sys.stderr)


def _open_bar(task: str, total: int, done: int) -> _Bar:
    # Not before there is something to show: tqdm's own delay leaves half a bar behind where a line is said meanwhile.
    try:
        from tqdm import tqdm
    except ImportError:
        return _Lines(task, total, done)
    # In a log file, which keeps every state of the bar, a few are enough.
    interval = 0.1 if sys.stderr.isatty() else INTERVAL
    return tqdm(desc=task, total=total, initial=done, unit="img", dynamic_ncols=True, mininterval=interval)


class _Lines:
    """What is shown without tqdm."""

    def __init__(self, task: str, total: int, done: int) -> None:
        self.task, self.total, self.done = task, total, done
        self._due = 0.0
        self._show()

    def update(self) -> None:
        self.done += 1
        self._show()

    def close(self) -> None:
        """Nothing is left to do."""

    def _show(self) -> None:
        if (now := time.monotonic()) >= self._due:
            print(f"{self.task}: {self.done} of {self.total} pictures", file=sys.stderr, flush=True)
            self._due = now + INTERVAL
