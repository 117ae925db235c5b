"""Store and Redis in step: what is found again, what is removed, and when."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import obstore
import pytest
from redis.asyncio import Redis

from service.consumer import Consumer
from service.jobs import storage
from service.jobs.board import Board, UnknownJobError
from service.jobs.keeper import Keeper
from service.jobs.task import Tasks, TileTask
from service.outputs.store import Store
from service.queue import GROUP, TILES, connect, stop_task
from tests.service.jobs.cluster import Cluster
from tests.service.jobs.conftest import submit
from tests.service.jobs.stand_in import files_below, make_job
from tests.service.waiting import eventually

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64


@pytest.fixture
async def board(redis: "Redis") -> Board:
    await Consumer(redis, "worker", 1.0).join()
    return Board(redis)


@pytest.fixture
def keeper(board: Board, store: Store) -> Keeper:
    return Keeper(board, store, days=2)


async def test_jobs_that_redis_lost_are_found_again(redis: "Redis", board: Board, store: Store, keeper: Keeper) -> None:
    unfinished, finished = make_job(DIGEST, number=1), make_job(DIGEST, number=2)
    await submit(board, store, unfinished)
    await submit(board, store, finished)
    await obstore.put_async(store, finished.path("picture.dzi"), b"<Image/>")
    await redis.flushall()
    await keeper.look()
    assert (await board.status(unfinished.id)).state == "queued"
    assert await redis.xlen(TILES) == unfinished.order.pyramid.tiles
    again = await board.status(finished.id)
    assert (again.state, again.done) == ("succeeded", finished.order.pyramid.tiles)
    assert again.finished == pytest.approx(time.time(), abs=60)
    assert again.job == finished


async def test_a_key_has_the_same_job_after_redis_lost_it(
    redis: "Redis", board: Board, store: Store, keeper: Keeper
) -> None:
    unfinished, finished, other = (
        replace(make_job(DIGEST, number=number), key=key) for number, key in ((1, "a"), (2, "b"), (3, "a"))
    )
    await submit(board, store, unfinished)
    await submit(board, store, finished)
    await obstore.put_async(store, finished.path("picture.dzi"), b"<Image/>")
    await redis.flushall()
    assert not await board.is_compared()
    await keeper.look()
    assert await board.is_compared()
    assert await board.known(other, limit=9) == unfinished.id
    assert await board.known(replace(other, key="b"), limit=9) == finished.id


async def test_of_two_orders_with_one_key_that_which_redis_knows_goes_on(
    redis: "Redis", board: Board, store: Store, outputs: Path, keeper: Keeper
) -> None:
    """The other is of a gateway that was killed before it was told that it had come too late."""
    first, second = (replace(make_job(DIGEST, number=number), key="a") for number in (1, 2))
    await submit(board, store, second)
    await storage.put_record(store, first)
    await keeper.compare()
    assert await board.ids() == {second.id}
    assert files_below(outputs).keys() == {second.record}


async def test_a_redis_that_was_started_anew_may_have_lost_jobs(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ())
    try:
        await cluster.start("redis")
        async with connect(cluster.redis_url) as redis:
            board = Board(redis)
            await board.end_comparison(await board.begin_comparison())
            assert await board.is_compared()
            assert await redis.bgrewriteaof()  # so that it is kept

            async def is_written() -> bool:
                state: Any = await redis.info("persistence")
                return not state["aof_rewrite_in_progress"] and not state["aof_rewrite_scheduled"]

            await eventually(is_written)
            cluster.kill("redis")
            await cluster.processes["redis"].wait()
            await cluster.start("redis")
            assert await redis.get("creps:jobs:compared")
            assert not await board.is_compared()
    finally:
        await cluster.stop()


async def test_a_keeper_outlives_what_nobody_foresaw(
    board: Board, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(board, store, days=1, round_seconds=0.01)
    job = make_job(DIGEST)
    await storage.put_record(store, job)
    failures = iter([AttributeError("unforeseen"), AttributeError("unforeseen")])
    look = keeper.look

    async def fail_at_first() -> None:
        if error := next(failures, None):
            raise error
        await look()

    monkeypatch.setattr(keeper, "look", fail_at_first)
    running = asyncio.create_task(keeper.run())

    async def is_found() -> bool:
        return await board.ids() == {job.id}

    await eventually(is_found)
    assert not running.done()
    await stop_task(running)
    assert caplog.text.count("AttributeError: unforeseen") == 1


async def test_orders_that_nobody_here_can_read_disturb_no_other(
    redis: "Redis", board: Board, store: Store, outputs: Path, keeper: Keeper
) -> None:
    """As those of a newer gateway, while there are still older ones."""
    strange, known = make_job(DIGEST, number=1), make_job(DIGEST, number=2)
    for job in (strange, known):
        await submit(board, store, job)
    await redis.hset(f"creps:job:{strange.id}", "order", strange.order.to_json().replace('"dzi"', '"zarr"'))
    assert [status.job.id for status in await board.latest(10)] == [known.id]
    with pytest.raises(UnknownJobError):
        await board.status(strange.id)
    await board.cancel(strange.id)
    await redis.hset(f"creps:job:{strange.id}", "open", 0)
    await keeper.look()
    assert files_below(outputs).keys() == {known.record}


async def test_a_job_that_is_known_stays_as_it_is(board: Board, store: Store, keeper: Keeper) -> None:
    job = make_job(DIGEST)
    await submit(board, store, job)
    before = await board.status(job.id)
    await keeper.compare()
    assert await board.status(job.id) == before


async def test_files_of_no_job_are_removed(store: Store, outputs: Path, keeper: Keeper) -> None:
    await obstore.put_async(store, "jobs/00ff/picture_files/0/0_0.png", b"left by a job that was removed")
    await obstore.put_async(store, "others/file", b"not ours")
    await keeper.compare()
    assert len(files_below(outputs)) == 2  # its record may be about to be written
    await keeper.compare()
    assert files_below(outputs) == {"others/file": b"not ours"}


@pytest.mark.parametrize("record", [b"{}", b"[]", b"", b"null", b'{"order": 1}', b'{"order": {"spec": null}}'])
async def test_a_record_that_cannot_be_read_is_left_alone(
    board: Board, store: Store, keeper: Keeper, record: bytes
) -> None:
    await obstore.put_async(store, "jobs/00ff/job.json", record)
    await keeper.compare()
    assert await board.ids() == set()
    assert await board.is_compared()
    assert bytes(await (await obstore.get_async(store, "jobs/00ff/job.json")).bytes_async()) == record


async def test_files_of_a_cancelled_job_go_when_no_worker_holds_a_tile(
    redis: "Redis", board: Board, store: Store, outputs: Path, keeper: Keeper
) -> None:
    job, tasks = make_job(DIGEST, size=(64, 64)), Tasks(redis)
    await submit(board, store, job)
    streams: Any = await redis.xreadgroup(GROUP, "worker", {TILES: ">"})
    held = [TileTask.from_fields(entry, fields) for _, entries in streams for entry, fields in entries]
    await board.cancel(job.id)
    await keeper.look()
    assert files_below(outputs)
    for task in held:
        await tasks.drop(task)
    await keeper.look()
    assert not files_below(outputs)
    assert (await board.status(job.id)).state == "cancelled"  # which can still be asked


async def test_ended_jobs_are_removed_after_some_days(
    redis: "Redis", board: Board, store: Store, outputs: Path, keeper: Keeper
) -> None:
    old, new, running = (make_job(DIGEST, number=number) for number in (1, 2, 3))
    for job, days in ((old, 2.01), (new, 1.99)):
        await storage.put_record(store, job)
        await obstore.put_async(store, job.path("picture.dzi"), b"<Image/>")
        await board.remember(job, time.time() - days * 86_400)
    await submit(board, store, running)
    await keeper.look()
    assert await board.ids() == {new.id, running.id}
    assert {name.split("/")[1] for name in files_below(outputs)} == {new.id, running.id}
    with pytest.raises(UnknownJobError):
        await board.status(old.id)
    assert not await redis.keys(f"creps:job:{old.id}*")


async def test_one_keeper_at_a_time(board: Board, store: Store) -> None:
    one, two = Keeper(board, store, days=1), Keeper(board, store, days=1)
    assert await one._is_mine()
    assert not await two._is_mine()
    assert await one._is_mine()
    await board.redis.delete("creps:keeper")  # as when the first has died, and its time is over
    assert await two._is_mine()
    assert not await one._is_mine()
