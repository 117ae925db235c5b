"""How long work will take, from when parts of it were done."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

WINDOW, MIN_MARKS = 30.0, 16
"""Seconds before the last mark in which marks count as recent. If there are fewer than MIN_MARKS, the latest count."""

KNOWN_SECONDS, KNOWN_MARKS = 2.0, 4
"""What recent marks must span before they are extrapolated: batches of tiles take up to half a second, and those of
one batch are stored almost at once."""


class Mark(NamedTuple):
    """At ``time``, in seconds of any clock, ``work`` was done in all."""

    time: float
    work: float


def seconds_left(marks: Sequence[Mark], left: float, now: float) -> float | None:
    """Estimated seconds until ``left`` more work is done; None while too little is known.

    ``marks`` are in order of time. The pace is the slope of the line that fits the recent ones best: the first or last
    tile of a batch moves it little. Between two marks the estimate counts down. When the next mark is later than any
    before, the pace falls, and the estimate rises.
    """
    marks = _recent(marks)
    if len(marks) < KNOWN_MARKS or (span := marks[-1].time - marks[0].time) < KNOWN_SECONDS:
        return None
    time, work = (sum(values) / len(marks) for values in zip(*marks, strict=True))
    variance: float = sum((mark.time - time) ** 2 for mark in marks)
    pace: float = sum((mark.time - time) * (mark.work - work) for mark in marks) / variance
    if pace <= 0:
        return None
    waited = max(now - marks[-1].time, 0.0)
    usual = max(after.time - before.time for before, after in pairwise(marks))
    late = max(waited - usual, 0.0)
    return max(left / pace * (span + late) / span - min(waited, usual), 0.0)


def _recent(marks: Sequence[Mark]) -> Sequence[Mark]:
    recent = [mark for mark in marks if mark.time >= marks[-1].time - WINDOW]
    return recent if len(recent) >= MIN_MARKS else marks[-MIN_MARKS:]
