"""The rules of jobs on a real queue server, without workers: what is queued when, and what counts."""

import random
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from service.jobs.job import Job
from service.jobs.repository import JobRepository, TooManyJobsError, UnknownJobError, UnsettledKeysError
from service.jobs.tile_tasks import TileTask, TileTasks
from service.queue.consumer import Consumer
from service.runtime.redis_keys import DEAD, TILES
from tests.service.jobs.stand_in import make_job, take_tiles
from tests.service.waiting import LONG

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64


@pytest.fixture
async def repository(redis: "Redis") -> JobRepository:
    await Consumer(redis, "worker", 1.0).join()
    return JobRepository(redis)


async def test_a_large_job_is_queued_as_it_is_drawn_and_each_tile_once(
    redis: "Redis", repository: JobRepository
) -> None:
    job, tasks = make_job(DIGEST, "png", size=(1024, 512)), TileTasks(redis)  # 128 tiles
    await repository.create(job)
    seen = []
    while taken := await take_tiles(redis, 7):
        assert await redis.xlen(TILES) == len(taken) <= 7
        seen += [task.tile for task in taken]
        for task in random.Random(len(seen)).sample(taken, len(taken)):
            assert await tasks.settle(task)
    assert seen == [*range(128), 128]  # the last entry finishes the file
    status = await repository.status(job.id)
    assert (status.state, status.done, status.total, status.open) == ("succeeded", 128, 128, 0)
    assert await redis.xlen(TILES) == 0


async def test_the_file_is_finished_only_after_the_last_tile(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST, size=(128, 64)), TileTasks(redis)
    await repository.create(job)
    *first, last = await take_tiles(redis, 100)
    for task in first:
        await tasks.settle(task)
    assert await take_tiles(redis, 100) == []
    await tasks.settle(last)
    (finishing,) = await take_tiles(redis, 100)
    assert finishing.tile == job.export.tiles
    assert (await repository.status(job.id)).state == "running"
    await tasks.settle(finishing)
    finished = await repository.status(job.id)
    assert (finished.state, finished.job.export) == ("succeeded", job.export)


async def test_what_comes_twice_counts_once(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST), TileTasks(redis)
    await repository.create(job)
    await repository.create(job)
    first, *_ = await take_tiles(redis, 100)
    assert await tasks.settle(first)
    before = await repository.status(job.id)
    assert await tasks.settle(first)
    assert await repository.status(job.id) == before
    assert (before.done, before.open) == (1, before.total - 1)
    assert list(await repository.finished_tiles(job.id)) == [first.tile]


async def test_events_tell_tiles_and_can_be_resumed(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST), TileTasks(redis)
    await repository.create(job)
    one, two, *_ = await take_tiles(redis, 100)
    await tasks.settle(one)
    after, tiles = await repository.events(job.id, "0-0")
    assert tiles == [one.tile]
    assert after == await repository.last_event(job.id)
    await tasks.settle(two)
    after, tiles = await repository.events(job.id, after)
    assert tiles == [two.tile]
    assert await repository.events(job.id, after) == (after, [])


async def test_no_tile_of_a_cancelled_job_counts_any_more(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST), TileTasks(redis)
    await repository.create(job)
    drawn, *others = await take_tiles(redis, 100)
    await repository.cancel(job.id)
    assert not await tasks.settle(drawn)  # so that the worker removes what it has written
    for task in others:
        await tasks.retry(task, 0)
    status = await repository.status(job.id)
    assert (status.state, status.done, status.open) == ("cancelled", 0, 0)
    assert await repository.pending_cleanup() == {job.id: 0}
    await repository.cleaned_up(job.id)
    assert await repository.pending_cleanup() == {}
    assert await redis.xlen(TILES) == 0


async def test_a_failed_tile_ends_its_job_with_the_reason(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST), TileTasks(redis)
    await repository.create(job)
    task, *_ = await take_tiles(redis, 100)
    await tasks.retry(task, 1)
    *_, again = await take_tiles(redis, 100)
    assert (again.tile, again.tries) == (task.tile, 1)
    await tasks.fail(again, "the store failed: No space left on device", "worker")
    status = await repository.status(job.id)
    assert (status.state, status.error) == ("failed", "the store failed: No space left on device")
    letters: Any = await redis.xrange(DEAD)
    assert [letter[b"error"] for _, letter in letters] == [b"the store failed: No space left on device"]


async def test_lists_of_an_owner_follow_its_jobs(redis: "Redis", repository: JobRepository) -> None:
    one, two, three = (
        replace(make_job(DIGEST, number=number), owner=owner, labels={"project": "posters"}, model_name="demo")
        for number, owner in ((1, "ann"), (2, "bob"), (3, None))
    )

    async def listed(owner: str | None) -> list[str]:
        found = [status.job.id for status in await repository.latest(10, owner=owner)]
        page, _ = await repository.page(10, "", owner=owner)
        assert [status.job.id for status in page] == found
        assert sum((await repository.counts(owner)).values()) == len(found)
        return sorted(found)

    for job in (one, two, three):
        await repository.create(job)
    assert await listed("ann") == [one.id]
    assert await listed(None) == [one.id, two.id, three.id]
    assert (await repository.status(one.id)).job == one
    await repository.cancel(one.id)
    assert (await repository.counts("ann"))["cancelled"] == 1
    await repository.delete(one.id)
    assert await listed("ann") == []
    await redis.flushall()
    restored = Job.from_json(two.to_json())
    assert restored == two
    await repository.restore(restored, finished=5.0)
    assert await listed("bob") == [two.id]
    assert (await repository.status(two.id)).job == two
    await repository.delete(two.id)
    assert not await redis.keys("creps:jobs*")


async def test_a_task_of_a_forgotten_job_changes_nothing(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST), TileTasks(redis)
    await repository.create(job)
    one, two, three, *_ = await take_tiles(redis, 100)
    await repository.delete(job.id)
    assert await tasks.settle(one)  # what it wrote stays: the keeper knows better
    await tasks.retry(two, 1)
    await tasks.fail(three, "reason", "worker")
    await tasks.advance(three, 5)
    assert not await redis.keys("creps:job:*")
    with pytest.raises(UnknownJobError):
        await repository.status(job.id)
    assert sum((await repository.counts()).values()) == 0


async def test_what_is_queued_of_a_forgotten_job_is_not_counted_for_the_next_one_of_its_key(
    redis: "Redis", repository: JobRepository
) -> None:
    old, new = (replace(make_job(DIGEST, number=number), key="k") for number in (1, 2))
    tasks = TileTasks(redis)
    assert await repository.create(old) == old.id
    assert await repository.create(new) == old.id
    one, two, *others = await take_tiles(redis, 100)
    await repository.cancel(old.id)
    for task in others:
        await tasks.retry(task, 0)
    await repository.delete(old.id)
    assert await repository.create(new) == new.id
    await tasks.settle(one)
    await tasks.retry(two, 0)
    before = await repository.status(new.id)
    assert (before.done, before.open) == (0, 1)
    while taken := await take_tiles(redis, 100):
        for task in taken:
            await tasks.settle(task)
    assert (await repository.status(new.id)).state == "succeeded"
    await repository.delete(new.id)
    assert not await redis.hgetall("creps:jobs:keys")


async def test_what_is_refused_changes_nothing(redis: "Redis", repository: JobRepository) -> None:
    one, two = make_job(DIGEST, number=1), replace(make_job(DIGEST, number=2), key="k")
    await repository.create(one, limit=1)
    assert await repository.find(one, limit=1) == one.id
    keys = await redis.keys()
    with pytest.raises(UnsettledKeysError):
        await repository.create(two, limit=2)
    await repository.end_comparison(await repository.begin_comparison())
    with pytest.raises(TooManyJobsError, match="1 jobs"):
        await repository.create(two, limit=1)
    assert await repository.find(two, limit=2) is None
    assert set(await redis.keys()) == {*keys, b"creps:jobs:compared"}
    assert await repository.create(two, limit=2) == two.id == await repository.find(two, limit=2)


async def test_a_redis_that_was_emptied_meanwhile_is_not_compared(redis: "Redis", repository: JobRepository) -> None:
    run = await repository.begin_comparison()
    assert not await repository.is_compared()
    await redis.flushall()
    await repository.end_comparison(run)
    assert not await repository.is_compared()
    await repository.end_comparison(await repository.begin_comparison())
    assert await repository.is_compared()


async def test_jobs_are_listed_from_the_newest_and_counted(repository: JobRepository) -> None:
    jobs = [make_job(DIGEST, number=number) for number in range(1, 6)]
    for job in jobs:
        await repository.create(job)
    await repository.cancel(jobs[1].id)
    newest_first = [job.id for job in reversed(jobs)]
    assert [status.job.id for status in await repository.latest(10)] == newest_first
    assert [status.job.id for status in await repository.latest(2, offset=1)] == newest_first[1:3]
    assert [status.job.id for status in await repository.latest(10, state="cancelled")] == [jobs[1].id]
    assert await repository.counts() == {"queued": 4, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 1}
    assert await repository.ids() == {job.id for job in jobs}


async def test_marks_are_those_of_what_is_being_done(redis: "Redis", repository: JobRepository) -> None:
    job, tasks = make_job(DIGEST, "png", size=(1024, 512)), TileTasks(redis)  # 128 tiles
    await repository.create(job)
    for task in await take_tiles(redis, 127):
        await tasks.settle(task)
    status = await repository.status(job.id)
    assert [mark.work for mark in status.marks] == [1, *range(64, 128)]  # the first and the latest
    times = [mark.time for mark in status.marks]
    assert [*times, status.now] == sorted([*times, status.now])
    assert status.now - times[0] < LONG
    await tasks.settle((await take_tiles(redis, 100))[0])
    (finishing,) = await take_tiles(redis, 100)
    assert (await repository.status(job.id)).marks == []
    for stored in (9, 18, 2, 4, 12):  # the worker of the first two was killed
        assert await tasks.advance(finishing, stored)
    assert [mark.work for mark in (await repository.status(job.id)).marks] == [2, 4, 12]
    await repository.cancel(job.id)
    assert not await tasks.advance(finishing, 14)
    await tasks.retry(finishing, 0)
    assert await redis.xlen(TILES) == 0


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
async def test_whatever_happens_the_queue_holds_what_the_job_says(
    redis: "Redis", repository: JobRepository, seed: int
) -> None:
    chance = random.Random(seed)
    job, tasks = make_job(DIGEST, size=(1024, 1024)), TileTasks(redis)
    await repository.create(job)
    old: list[TileTask] = []
    for _ in range(150):
        old += await take_tiles(redis, chance.randint(1, 5))
        if not old:
            break
        task = chance.choice(old)
        match chance.randrange(10):
            case 0:
                await tasks.retry(task, task.tries + 1)
            case 2 if chance.random() < 0.05:
                await repository.cancel(job.id)
            case _:
                await tasks.settle(task)
        status = await repository.status(job.id)
        assert status.open == await redis.xlen(TILES)
        assert status.done == len(list(await repository.finished_tiles(job.id)))
