"""Store and Redis in step: what is found again, what is removed, and when."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pytest
from redis.asyncio import Redis

from service.imaging.object_store import Store
from service.jobs import records
from service.jobs.reconciler import Reconciler
from service.jobs.repository import JobRepository, UnknownJobError
from service.jobs.tile_tasks import TileTasks
from service.queue.consumer import Consumer
from service.runtime.redis import connect, stop_task
from service.runtime.redis_keys import TILES
from tests.service.jobs.cluster import Cluster
from tests.service.jobs.conftest import submit
from tests.service.jobs.stand_in import files_below, make_job, take_tiles
from tests.service.waiting import eventually

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64


@pytest.fixture
async def repository(redis: "Redis") -> JobRepository:
    await Consumer(redis, "worker", 1.0).join()
    return JobRepository(redis)


@pytest.fixture
def reconciler(repository: JobRepository, store: Store) -> Reconciler:
    return Reconciler(repository, store, days=2)


async def test_jobs_that_redis_lost_are_found_again(
    redis: "Redis", repository: JobRepository, store: Store, reconciler: Reconciler
) -> None:
    unfinished, finished = make_job(DIGEST, number=1), make_job(DIGEST, number=2)
    await submit(repository, store, unfinished)
    await submit(repository, store, finished)
    await obstore.put_async(store, finished.path("picture.dzi"), b"<Image/>")
    await redis.flushall()
    await reconciler.reconcile()
    assert (await repository.status(unfinished.id)).state == "queued"
    assert [job.tiles for job in (await repository.waiting()).values()] == [unfinished.export.tiles - 1]
    assert await redis.xlen(TILES) == 1
    again = await repository.status(finished.id)
    assert (again.state, again.done) == ("succeeded", finished.export.tiles)
    assert again.finished == pytest.approx(time.time(), abs=60)
    assert again.job == finished


async def test_a_key_has_the_same_job_after_redis_lost_it(
    redis: "Redis", repository: JobRepository, store: Store, reconciler: Reconciler
) -> None:
    unfinished, finished, other = (
        replace(make_job(DIGEST, number=number), key=key) for number, key in ((1, "a"), (2, "b"), (3, "a"))
    )
    await submit(repository, store, unfinished)
    await submit(repository, store, finished)
    await obstore.put_async(store, finished.path("picture.dzi"), b"<Image/>")
    await redis.flushall()
    assert not await repository.is_compared()
    await reconciler.reconcile()
    assert await repository.is_compared()
    assert await repository.find(other, limit=9) == unfinished.id
    assert await repository.find(replace(other, key="b"), limit=9) == finished.id


async def test_of_two_orders_with_one_key_that_which_redis_knows_goes_on(
    redis: "Redis", repository: JobRepository, store: Store, outputs: Path, reconciler: Reconciler
) -> None:
    """The other is of a gateway that was killed before it was told that it had come too late."""
    first, second = (replace(make_job(DIGEST, number=number), key="a") for number in (1, 2))
    await submit(repository, store, second)
    await records.put_record(store, first)
    await reconciler.compare()
    assert await repository.ids() == {second.id}
    assert files_below(outputs).keys() == {second.path("job.json")}


async def test_a_redis_that_was_started_anew_may_have_lost_jobs(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ())
    try:
        await cluster.start("redis")
        async with connect(cluster.redis_url) as redis:
            repository = JobRepository(redis)
            await repository.end_comparison(await repository.begin_comparison())
            assert await repository.is_compared()
            assert await redis.bgrewriteaof()  # so that it is kept

            async def is_written() -> bool:
                state: Any = await redis.info("persistence")
                return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]

            await eventually(is_written)
            cluster.kill("redis")
            await cluster.processes["redis"].wait()
            await cluster.start("redis")
            assert await redis.get("creps:jobs:compared")
            assert not await repository.is_compared()
    finally:
        await cluster.stop()


async def test_a_keeper_outlives_what_nobody_foresaw(
    repository: JobRepository, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.jobs.reconciler.ROUND_SECONDS", 0.01)
    reconciler = Reconciler(repository, store, days=1)
    job = make_job(DIGEST)
    await records.put_record(store, job)
    failures = iter([AttributeError("unforeseen"), AttributeError("unforeseen")])
    look = reconciler.reconcile

    async def fail_at_first() -> None:
        if error := next(failures, None):
            raise error
        await look()

    monkeypatch.setattr(reconciler, "reconcile", fail_at_first)
    running = asyncio.create_task(reconciler.run())

    async def is_found() -> bool:
        return await repository.ids() == {job.id}

    await eventually(is_found)
    assert not running.done()
    await stop_task(running)
    assert caplog.text.count("AttributeError: unforeseen") == 1


async def test_orders_that_nobody_here_can_read_disturb_no_other(
    redis: "Redis", repository: JobRepository, store: Store, outputs: Path, reconciler: Reconciler
) -> None:
    """As those of a newer gateway, while there are still older ones."""
    strange, known = make_job(DIGEST, number=1), make_job(DIGEST, number=2)
    for job in (strange, known):
        await submit(repository, store, job)
    await redis.hset(f"creps:job:{strange.id}", "order", strange.export.to_json().replace('"dzi"', '"zarr"'))
    assert [status.job.id for status in await repository.latest(10)] == [known.id]
    with pytest.raises(UnknownJobError):
        await repository.status(strange.id)
    await repository.cancel(strange.id)
    await redis.hset(f"creps:job:{strange.id}", "open", 0)
    await reconciler.reconcile()
    assert files_below(outputs).keys() == {known.path("job.json")}


async def test_a_job_that_is_known_stays_as_it_is(
    repository: JobRepository, store: Store, reconciler: Reconciler
) -> None:
    job = make_job(DIGEST)
    await submit(repository, store, job)
    before = await repository.status(job.id)
    await reconciler.compare()
    assert await repository.status(job.id) == before


async def test_files_of_no_job_are_removed(store: Store, outputs: Path, reconciler: Reconciler) -> None:
    await obstore.put_async(store, "jobs/00ff/picture_files/0/0_0.png", b"left by a job that was removed")
    await obstore.put_async(store, "others/file", b"not ours")
    await reconciler.compare()
    assert len(files_below(outputs)) == 2  # its record may be about to be written
    await reconciler.compare()
    assert files_below(outputs) == {"others/file": b"not ours"}


@pytest.mark.parametrize("record", [b"{}", b"[]", b"", b"null", b'{"order": 1}', b'{"order": {"spec": null}}'])
async def test_a_record_that_cannot_be_read_is_left_alone(
    repository: JobRepository, store: Store, reconciler: Reconciler, record: bytes
) -> None:
    await obstore.put_async(store, "jobs/00ff/job.json", record)
    await reconciler.compare()
    assert await repository.ids() == set()
    assert await repository.is_compared()
    assert bytes(await (await obstore.get_async(store, "jobs/00ff/job.json")).bytes_async()) == record


async def test_files_of_a_cancelled_job_go_when_no_worker_holds_a_tile(
    redis: "Redis", repository: JobRepository, store: Store, outputs: Path, reconciler: Reconciler
) -> None:
    job, tasks = make_job(DIGEST, size=(64, 64)), TileTasks(redis)
    await submit(repository, store, job)
    held = await take_tiles(redis, 100)
    await repository.cancel(job.id)
    await reconciler.reconcile()
    assert files_below(outputs)
    for task in held:
        await tasks.retry(task, 0)
    await reconciler.reconcile()
    assert not files_below(outputs)
    assert (await repository.status(job.id)).state == "cancelled"  # which can still be asked


async def test_ended_jobs_are_removed_after_some_days(
    redis: "Redis", repository: JobRepository, store: Store, outputs: Path, reconciler: Reconciler
) -> None:
    old, new, running = (make_job(DIGEST, number=number) for number in (1, 2, 3))
    for job, days in ((old, 2.01), (new, 1.99)):
        await records.put_record(store, job)
        await obstore.put_async(store, job.path("picture.dzi"), b"<Image/>")
        await repository.restore(job, time.time() - days * 86_400)
    await submit(repository, store, running)
    await reconciler.reconcile()
    assert await repository.ids() == {new.id, running.id}
    assert {name.split("/")[1] for name in files_below(outputs)} == {new.id, running.id}
    with pytest.raises(UnknownJobError):
        await repository.status(old.id)
    assert not await redis.keys(f"creps:job:{old.id}*")


async def test_one_keeper_at_a_time(repository: JobRepository, store: Store) -> None:
    one, two = Reconciler(repository, store, days=1), Reconciler(repository, store, days=1)
    assert await one._holds_lock()
    assert not await two._holds_lock()
    assert await one._holds_lock()
    await repository.redis.delete("creps:keeper")  # as when the first has died, and its time is over
    assert await two._holds_lock()
    assert not await one._holds_lock()
