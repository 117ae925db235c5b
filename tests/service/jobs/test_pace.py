"""How long a job will take, by a clock that the tests hold: workers that store tiles."""

import math
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from service.jobs.pace import KNOWN_MARKS, KNOWN_SECONDS, Mark, seconds_left

START = 1_700_000_000.0

MARKS = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1e9)), max_size=80).map(
    lambda steps: [
        Mark(START + sum(t for t, _ in steps[: i + 1]), sum(w for _, w in steps[: i + 1])) for i in range(len(steps))
    ]
)


def stored(batches: int, tiles: int, seconds: float, workers: int, jitter: list[float]) -> list[Mark]:
    """What is stored by workers, each of which draws a batch of equal tiles in about so many seconds."""
    times = []
    for worker in range(workers):
        time = START + worker * seconds / workers
        for batch in range(batches):
            time += seconds * jitter[(worker + batch) % len(jitter)]
            times += [time + 0.001 * tile for tile in range(tiles)]
    return [Mark(time, float(count)) for count, time in enumerate(sorted(times), 1)]


def looks(marks: list[Mark], until: float) -> Iterator[tuple[float, list[Mark]]]:
    """The moments at which somebody asks, five a second, and what is known then: as much as the service reads."""
    for tick in range(round(5 * (until - START))):
        now = START + tick / 5
        known = [mark for mark in marks if mark.time <= now]
        recent = [mark for mark in known if mark.time >= known[-1].time - 30][:3]
        yield now, sorted({*recent, *known[-64:]})


@given(MARKS, st.floats(0, 1e12), st.floats(-10, 1e5))
def test_an_estimate_is_a_time_and_never_negative(marks: list[Mark], left: float, later: float) -> None:
    estimate = seconds_left(marks, left, (marks[-1].time if marks else START) + later)
    assert estimate is None or (estimate >= 0 and math.isfinite(estimate))


@given(
    tiles=st.integers(1, 16),
    seconds=st.floats(0.05, 0.5),
    workers=st.integers(1, 8),
    jitter=st.lists(st.floats(0.8, 1.25), min_size=7, max_size=7),
)
def test_what_is_estimated_comes_true_and_does_not_jump(
    tiles: int, seconds: float, workers: int, jitter: list[float]
) -> None:
    """Batches take up to half a second. Tiles of a batch come together, those of workers whenever they come."""
    batches = round(12 / seconds)
    marks = stored(batches, tiles, seconds, workers, jitter)
    end, before = marks[-1].time, None
    for now, known in looks(marks, end):
        left = len(marks) - sum(mark.time <= now for mark in marks)
        estimate = seconds_left(known, left, now)
        if now - START < KNOWN_SECONDS:
            assert estimate is None
        if estimate is None:
            assert now - START < KNOWN_SECONDS + 2 * 0.5 * 1.25, "too late"
            continue
        assert abs(estimate - (end - now)) <= 0.25 * (end - now) + 0.5
        if before is not None:
            assert abs(estimate - (before - 0.2)) <= 0.1 * before + 0.5, "a jump"
        before = estimate


@given(seconds=st.floats(0.05, 5), stall=st.floats(10, 600))
def test_while_nothing_is_stored_the_estimate_rises(seconds: float, stall: float) -> None:
    marks = stored(20, 1, seconds, 1, [1.0])
    if marks[-1].time - marks[0].time < KNOWN_SECONDS:
        return
    last = marks[-1].time
    estimates = [seconds_left(marks, 1000.0, last + part * stall) for part in (0.5, 0.75, 1.0)]
    assert None not in estimates
    assert estimates == sorted(estimates)  # type: ignore[type-var]
    assert estimates[-1] > 1000 * seconds  # type: ignore[operator]


@given(seconds=st.floats(2.1, 100), workers=st.integers(2, 8))
def test_workers_that_began_together_are_not_taken_for_fast_ones(seconds: float, workers: int) -> None:
    """Each stores a group of frames at about the same time, and then none does for long."""
    marks = [
        Mark(START + seconds * i + 0.01 * worker, float(workers * i + worker))
        for i in (1, 2)
        for worker in range(workers)
    ]
    estimate = seconds_left(marks, 10.0 * workers, marks[-1].time)
    if len(marks) >= KNOWN_MARKS:
        assert estimate is not None
        assert abs(estimate / (10 * seconds) - 1) < 0.1


@given(slower=st.floats(1 / 8, 8))
def test_the_pace_is_that_of_late(slower: float) -> None:
    """A pace that has changed is forgotten after the window."""
    first = [Mark(START + i / 2, float(i)) for i in range(200)]
    marks = first + [Mark(first[-1].time + slower * i / 2, 199.0 + i) for i in range(1, 400)]
    estimate = seconds_left(marks[-64:], 100.0, marks[-1].time)
    assert estimate is not None
    assert abs(estimate / (100 * slower / 2) - 1) < 0.01


@given(tiles=st.lists(st.floats(1, 1000), min_size=60, max_size=60))
def test_work_counts_not_tiles(tiles: list[float]) -> None:
    """Tiles of any cost, each of which takes as long as its cost."""
    time, work, marks = START, 0.0, []
    total = sum(tiles)
    for cost in tiles[:40]:
        time, work = time + 60 * cost / total, work + cost
        marks.append(Mark(time, work))
    estimate = seconds_left(marks, total - work, time)
    if estimate is not None:
        assert abs(estimate - 60 * (total - work) / total) < 0.01 * 60


def test_too_little_is_nothing() -> None:
    assert seconds_left([], 10, START) is None
    assert seconds_left([Mark(START, 1), Mark(START + 100, 2)], 10, START + 100) is None
    burst = [Mark(START + i / 1000, i) for i in range(64)]
    assert seconds_left(burst, 10, START + 1) is None
    assert seconds_left([Mark(START + i, 7) for i in range(8)], 10, START + 8) is None
