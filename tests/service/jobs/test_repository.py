"""The rules of jobs on a real queue server, without workers: what is queued when, and what counts."""

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from service.consumer import Consumer
from service.jobs.board import WINDOW, Board, TooManyJobsError, UnknownJobError, UnsettledKeysError
from service.jobs.task import Tasks, TileTask
from service.queue import DEAD, GROUP, TILES
from tests.service.jobs.stand_in import make_job

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64


@pytest.fixture
async def board(redis: "Redis") -> Board:
    await Consumer(redis, "worker", 1.0).join()
    return Board(redis)


async def take(redis: "Redis", count: int) -> list[TileTask]:
    streams: Any = await redis.xreadgroup(GROUP, "worker", {TILES: ">"}, count=count)
    return [TileTask.from_fields(entry, fields) for _, entries in streams for entry, fields in entries]


async def test_a_large_job_is_queued_in_windows_and_each_tile_once(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST, "png", size=(4096, 2048)), Tasks(redis)  # 2048 tiles
    await board.admit(job)
    seen = []
    while taken := await take(redis, 7):
        assert await redis.xlen(TILES) <= WINDOW
        seen += [task.tile for task in taken]
        for task in random.Random(len(seen)).sample(taken, len(taken)):
            assert await tasks.settle(task)
    assert seen == [*range(2048), 2048]  # the last entry finishes the file
    status = await board.status(job.id)
    assert (status.state, status.done, status.total, status.open) == ("succeeded", 2048, 2048, 0)
    assert await redis.xlen(TILES) == 0


async def test_the_file_is_finished_only_after_the_last_tile(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST, size=(128, 64)), Tasks(redis)
    await board.admit(job)
    *first, last = await take(redis, 100)
    for task in first:
        await tasks.settle(task)
    assert await take(redis, 100) == []
    await tasks.settle(last)
    (finishing,) = await take(redis, 100)
    assert finishing.tile == job.order.pyramid.tiles
    assert (await board.status(job.id)).state == "running"
    await tasks.settle(finishing)
    assert (await board.finished(job.id)).order == job.order


async def test_what_comes_twice_counts_once(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST), Tasks(redis)
    await board.admit(job)
    await board.admit(job)
    first, *_ = await take(redis, 100)
    assert await tasks.settle(first)
    before = await board.status(job.id)
    assert await tasks.settle(first)
    assert await board.status(job.id) == before
    assert (before.done, before.open) == (1, before.total - 1)
    assert list(await board.finished_tiles(job.id)) == [first.tile]


async def test_events_tell_tiles_and_can_be_resumed(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST), Tasks(redis)
    await board.admit(job)
    one, two, *_ = await take(redis, 100)
    await tasks.settle(one)
    after, tiles = await board.events(job.id, "0-0")
    assert tiles == [one.tile]
    assert after == await board.last_event(job.id)
    await tasks.settle(two)
    after, tiles = await board.events(job.id, after)
    assert tiles == [two.tile]
    assert await board.events(job.id, after) == (after, [])


async def test_no_tile_of_a_cancelled_job_counts_any_more(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST), Tasks(redis)
    await board.admit(job)
    drawn, *others = await take(redis, 100)
    await board.cancel(job.id)
    assert not await tasks.settle(drawn)  # so that the worker removes what it has written
    for task in others:
        await tasks.drop(task)
    status = await board.status(job.id)
    assert (status.state, status.done, status.open) == ("cancelled", 0, 0)
    assert await board.untidy() == {job.id: 0}
    await board.tidied(job.id)
    assert await board.untidy() == {}
    assert await redis.xlen(TILES) == 0


async def test_a_failed_tile_ends_its_job_with_the_reason(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST), Tasks(redis)
    await board.admit(job)
    task, *_ = await take(redis, 100)
    await tasks.retry(task, 1)
    *_, again = await take(redis, 100)
    assert (again.tile, again.tries) == (task.tile, 1)
    await tasks.fail(again, "the store failed: No space left on device", "worker")
    status = await board.status(job.id)
    assert (status.state, status.error) == ("failed", "the store failed: No space left on device")
    letters: Any = await redis.xrange(DEAD)
    assert [letter[b"error"] for _, letter in letters] == [b"the store failed: No space left on device"]
    with pytest.raises(UnknownJobError, match="failed"):
        await board.finished(job.id)


async def test_a_task_of_a_forgotten_job_changes_nothing(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST), Tasks(redis)
    await board.admit(job)
    one, two, three, *_ = await take(redis, 100)
    await board.forget(job.id)
    assert await tasks.settle(one)  # what it wrote stays: the keeper knows better
    await tasks.retry(two, 1)
    await tasks.fail(three, "reason", "worker")
    await tasks.advance(three, 5)
    assert not await redis.keys("creps:job:*")
    with pytest.raises(UnknownJobError):
        await board.status(job.id)
    assert sum((await board.counts()).values()) == 0


async def test_what_is_queued_of_a_forgotten_job_is_not_counted_for_the_next_one_of_its_key(
    redis: "Redis", board: Board
) -> None:
    old, new = (replace(make_job(DIGEST, number=number), key="k") for number in (1, 2))
    tasks = Tasks(redis)
    assert await board.admit(old) == old.id
    assert await board.admit(new) == old.id
    one, two, *others = await take(redis, 100)
    await board.cancel(old.id)
    for task in others:
        await tasks.drop(task)
    await board.forget(old.id)
    assert await board.admit(new) == new.id
    await tasks.settle(one)
    await tasks.drop(two)
    before = await board.status(new.id)
    assert (before.done, before.open) == (0, before.total)
    while taken := await take(redis, 100):
        for task in taken:
            await tasks.settle(task)
    assert (await board.status(new.id)).state == "succeeded"
    await board.forget(new.id)
    assert not await redis.hgetall("creps:jobs:keys")


async def test_what_is_refused_changes_nothing(redis: "Redis", board: Board) -> None:
    one, two = make_job(DIGEST, number=1), replace(make_job(DIGEST, number=2), key="k")
    await board.admit(one, limit=1)
    assert await board.known(one, limit=1) == one.id
    keys = await redis.keys()
    with pytest.raises(UnsettledKeysError):
        await board.admit(two, limit=2)
    await board.end_comparison(await board.begin_comparison())
    with pytest.raises(TooManyJobsError, match="1 jobs"):
        await board.admit(two, limit=1)
    assert await board.known(two, limit=2) is None
    assert set(await redis.keys()) == {*keys, b"creps:jobs:compared"}
    assert await board.admit(two, limit=2) == two.id == await board.known(two, limit=2)


async def test_a_redis_that_was_emptied_meanwhile_is_not_compared(redis: "Redis", board: Board) -> None:
    run = await board.begin_comparison()
    assert not await board.is_compared()
    await redis.flushall()
    await board.end_comparison(run)
    assert not await board.is_compared()
    await board.end_comparison(await board.begin_comparison())
    assert await board.is_compared()


async def test_jobs_are_listed_from_the_newest_and_counted(board: Board) -> None:
    jobs = [make_job(DIGEST, number=number) for number in range(1, 6)]
    for job in jobs:
        await board.admit(job)
    await board.cancel(jobs[1].id)
    newest_first = [job.id for job in reversed(jobs)]
    assert [status.job.id for status in await board.latest(10)] == newest_first
    assert [status.job.id for status in await board.latest(2, offset=1)] == newest_first[1:3]
    assert [status.job.id for status in await board.latest(10, state="cancelled")] == [jobs[1].id]
    assert await board.counts() == {"queued": 4, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 1}
    assert await board.ids() == {job.id for job in jobs}


async def test_the_rate_is_that_of_what_is_being_done(redis: "Redis", board: Board) -> None:
    job, tasks = make_job(DIGEST, "png"), Tasks(redis)
    await board.admit(job)
    for task in await take(redis, 100):
        await tasks.settle(task)
    (finishing,) = await take(redis, 100)
    status = await board.status(job.id)
    assert (status.rate, status.left) == (None, status.total)
    for stored in (9, 18, 2, 4, 12):  # the worker of the first two was killed
        await asyncio.sleep(0.01)
        assert await tasks.advance(finishing, stored)
    status = await board.status(job.id)
    assert status.left == status.total - 12
    assert status.rate is not None
    assert 0 < status.rate <= 10 / 0.02
    await board.cancel(job.id)
    assert not await tasks.advance(finishing, 14)
    await tasks.retry(finishing, 0)
    assert await redis.xlen(TILES) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_the_queue_holds_what_the_job_says(redis: "Redis", board: Board, seed: int) -> None:
    chance = random.Random(seed)
    job, tasks = make_job(DIGEST, size=(1024, 1024)), Tasks(redis)
    await board.admit(job)
    old: list[TileTask] = []
    for _ in range(150):
        old += await take(redis, chance.randint(1, 5))
        if not old:
            break
        task = chance.choice(old)
        match chance.randrange(10):
            case 0:
                await tasks.retry(task, task.tries + 1)
            case 1:
                await tasks.drop(task)
            case 2 if chance.random() < 0.05:
                await board.cancel(job.id)
            case _:
                await tasks.settle(task)
        status = await board.status(job.id)
        assert status.open == await redis.xlen(TILES)
        assert status.done == len(list(await board.finished_tiles(job.id)))
