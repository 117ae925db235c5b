"""Workers on a real queue server: one in this process, or processes of their own where they are to be killed."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from model.checkpoint import Checkpoint
from service.queue.client import RenderClient
from service.queue.messages import DeadlinePassed, RenderFailed, RenderRequest, RenderResult, WorkerInfo
from service.runtime.redis_keys import DEAD, GROUP, IMAGES, TILES
from service.worker import batch_reader
from service.worker import worker as worker_module
from service.worker.model_cache import CPU_BYTES
from service.worker.render_executor import DeviceLostError
from tests.service import stand_in
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.stand_in import journal, make_spec, make_worker, open_gate
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

StartWorker = Callable[[], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def client(redis: "Redis") -> AsyncIterator[RenderClient]:
    async with RenderClient(redis, 1000) as client:
        yield client


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return save_hollow_checkpoint(tmp_path, "first")


@asynccontextmanager
async def running_worker(redis: "Redis", folder: Path, batch_limit: int = 8) -> AsyncIterator[None]:
    """A worker in this process. At the end it is asked to stop, and must."""
    worker = make_worker(redis, folder, batch_limit)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(running, LONG)


@pytest.fixture
async def start_worker(redis_url: str, tmp_path: Path, client: RenderClient) -> AsyncIterator[StartWorker]:
    """Starts a worker process and waits until it is alive."""
    async with AsyncExitStack() as stack:

        async def start() -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.service.stand_in", redis_url, str(tmp_path)
            )
            stack.push_async_callback(end, process)
            await eventually(lambda: has_started(client, process))
            return process

        yield start


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def has_started(client: RenderClient, process: asyncio.subprocess.Process) -> bool:
    """Whether it is alive, or was: what it draws may kill it before we look."""
    return process.returncode is not None or any(f"-{process.pid}-" in worker.id for worker in await client.workers())


def submit(client: RenderClient, digest: str, seed: int, timeout: float = LONG) -> "asyncio.Task[RenderResult]":
    return asyncio.create_task(client.render(make_spec(digest, seed), timeout))


async def submit_in_order(client: RenderClient, requests: list[tuple[str, int]]) -> "list[asyncio.Task[RenderResult]]":
    tasks = []
    for depth, (digest, seed) in enumerate(requests, start=1 + (await client.depths())["pictures"]):
        tasks.append(submit(client, digest, seed))
        await eventually(lambda depth=depth: has_depth(client, depth))  # type: ignore[misc]
    return tasks


async def has_depth(client: RenderClient, depth: int) -> bool:
    return (await client.depths())["pictures"] == depth


async def test_the_next_batch_is_read_while_one_is_rendered(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "HEARTBEAT_TIMEOUT", 100 * LONG)  # searches for dead workers come first
    monkeypatch.setattr(batch_reader, "READ_AHEAD_SECONDS", 0.0)  # this renderer takes no time

    def submit_large(seed: int) -> "asyncio.Task[RenderResult]":
        return asyncio.create_task(client.render(make_spec(checkpoint.digest, seed, 256, 256), LONG))

    async def holds(count: int) -> bool:
        return bool((await redis.xpending(IMAGES, GROUP))["pending"] == count)

    async with running_worker(redis, tmp_path, batch_limit=1):
        await submit_large(1)  # measures the speed
        tasks = [submit_large(stand_in.WAITS), submit_large(3), submit_large(4)]
        await eventually(lambda: holds(2))
        await eventually(lambda: [seeds for _, _, seeds in journal(tmp_path)] == [[1], [stand_in.WAITS]])
        open_gate(tmp_path)
        await asyncio.gather(*tasks)
    assert [seeds for _, _, seeds in journal(tmp_path)] == [[1], [stand_in.WAITS], [3], [4]]


async def test_what_was_read_ahead_is_answered_before_the_worker_stops(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "HEARTBEAT_TIMEOUT", 100 * LONG)
    monkeypatch.setattr(batch_reader, "READ_AHEAD_SECONDS", 0.0)
    worker = make_worker(redis, tmp_path, batch_limit=1)
    running = asyncio.create_task(worker.run())
    await client.render(make_spec(checkpoint.digest, 1, 256, 256), LONG)
    specs = [make_spec(checkpoint.digest, seed, 256, 256) for seed in (stand_in.WAITS, 3)]
    tasks = [asyncio.create_task(client.render(spec, LONG)) for spec in specs]

    async def holds_both() -> bool:
        return bool((await redis.xpending(IMAGES, GROUP))["pending"] == 2)

    await eventually(holds_both)
    worker.stop()
    open_gate(tmp_path)
    await asyncio.wait_for(running, LONG)
    assert [len((await task).content) > 0 for task in tasks] == [True, True]


async def test_many_clients_each_get_their_own_image(redis: "Redis", tmp_path: Path) -> None:
    models = [save_hollow_checkpoint(tmp_path, name).digest for name in ("first", "second", "third")]
    sizes = [(1 + i % 7, 1 + i % 5) for i in range(200)]
    async with (
        running_worker(redis, tmp_path),
        running_worker(redis, tmp_path),
        RenderClient(redis, 1000) as one,
        RenderClient(redis, 1000) as two,
    ):
        results = await asyncio.gather(
            *(
                (one, two)[i % 2].render(make_spec(models[i % 3], i, width, height), LONG)
                for i, (width, height) in enumerate(sizes)
            )
        )
        expected = [f"{width}x{height} {i} png".encode() for i, (width, height) in enumerate(sizes)]
        assert [result.content for result in results] == expected
        assert (await one.depths())["pictures"] == 0
    drawn = [(name, seed) for _, name, seeds in journal(tmp_path) for seed in seeds]
    assert set(drawn) == {(("first", "second", "third")[i % 3], i) for i in range(200)}


async def test_what_waits_for_one_model_is_rendered_together(
    redis: "Redis", client: RenderClient, tmp_path: Path
) -> None:
    first, second = (save_hollow_checkpoint(tmp_path, name).digest for name in ("first", "second"))
    tasks = await submit_in_order(client, [((first, second)[i % 2], i) for i in range(10)])
    async with running_worker(redis, tmp_path):
        await asyncio.gather(*tasks)
    batches = [(name, seeds) for _, name, seeds in journal(tmp_path)]
    assert batches[:2] == [("first", [0, 2, 4, 6]), ("second", [1, 3, 5, 7])]
    assert sorted(batches[2:]) == [("first", [8]), ("second", [9])]


@pytest.mark.parametrize(
    ("seed", "kind", "field", "message"),
    [
        (stand_in.INVALID, "invalid", "class_index", "this model has no classes"),
        (stand_in.NO_MEMORY, "memory", None, "does not fit the memory"),
        (stand_in.BREAKS, "failed", None, "an unexpected RuntimeError"),
        (stand_in.UNENCODABLE, "failed", None, "an unexpected RuntimeError"),
    ],
)
async def test_a_bad_request_fails_alone(
    redis: "Redis",
    client: RenderClient,
    checkpoint: Checkpoint,
    tmp_path: Path,
    seed: int,
    kind: str,
    field: str | None,
    message: str,
) -> None:
    tasks = await submit_in_order(client, [(checkpoint.digest, s) for s in (1, seed, 2)])
    async with running_worker(redis, tmp_path):
        good = await asyncio.gather(tasks[0], tasks[2])
        with pytest.raises(RenderFailed, match=message) as failure:
            await tasks[1]
    assert (failure.value.kind, failure.value.field) == (kind, field)
    assert "secret" not in str(failure.value)
    assert [result.content for result in good] == [b"8x4 1 png", b"8x4 2 png"]
    assert journal(tmp_path)[0][2] == [1, seed, 2]  # they were in one batch


async def test_styles_are_answered_beside_images(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    def styles_of(digest: str, seed: int) -> "asyncio.Task[RenderResult]":
        return asyncio.create_task(client.render(make_spec(digest, seed), LONG, wanted="styles"))

    async with running_worker(redis, tmp_path):
        image, styles = submit(client, checkpoint.digest, 5), styles_of(checkpoint.digest, 7)
        failing = [styles_of(checkpoint.digest, stand_in.INVALID), styles_of("0" * 64, 1)]
        assert (await image).content == b"8x4 5 png"
        assert np.frombuffer((await styles).content, "<f4").tolist() == [7.0] * 9
        for failure, kind in zip(failing, ("invalid", "unavailable"), strict=True):
            with pytest.raises(RenderFailed) as failed:
                await failure
            assert failed.value.kind == kind


async def test_a_model_that_is_not_there_is_unavailable(redis: "Redis", client: RenderClient, tmp_path: Path) -> None:
    async with running_worker(redis, tmp_path):
        with pytest.raises(RenderFailed) as failure:
            await client.render(make_spec("0" * 64), LONG)
        assert failure.value.kind == "unavailable"
        late = save_hollow_checkpoint(tmp_path, "late")
        assert (await client.render(make_spec(late.digest, 5), LONG)).content == b"8x4 5 png"


async def test_only_the_last_used_models_stay_loaded(redis: "Redis", client: RenderClient, tmp_path: Path) -> None:
    kept = CPU_BYTES // stand_in.StandIn.memory
    digests = [save_hollow_checkpoint(tmp_path, f"m{i}").digest for i in range(kept + 1)]
    async with running_worker(redis, tmp_path):
        for i in (*range(kept), 0, kept):
            await client.render(make_spec(digests[i]), LONG)

        async def tells_so() -> bool:
            (worker,) = await client.workers()
            return worker.models == (*digests[2:kept], digests[0], digests[kept])

        await eventually(tells_so)


async def test_a_model_that_is_removed_is_unloaded_but_not_before_its_images_are_drawn(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "REFRESH_SECONDS", 0.05)
    other = save_hollow_checkpoint(tmp_path, "other")

    async def loaded() -> set[str]:
        return {digest for worker in await client.workers() for digest in worker.models}

    async with running_worker(redis, tmp_path):
        await client.render(make_spec(other.digest), LONG)
        drawing = asyncio.create_task(client.render(make_spec(checkpoint.digest, stand_in.WAITS), LONG))
        await eventually(lambda: len(journal(tmp_path)) == 2)
        checkpoint.path.unlink()
        await asyncio.sleep(0.5)  # it is looked for, and being drawn all the same
        open_gate(tmp_path)
        assert (await drawing).content.startswith(b"8x4")

        async def is_gone() -> bool:
            return await loaded() == {other.digest}

        await eventually(is_gone)
        with pytest.raises(RenderFailed, match="cannot load the model"):
            await client.render(make_spec(checkpoint.digest), LONG)


async def test_what_nobody_waits_for_is_not_rendered(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(DeadlinePassed):
        await client.render(make_spec(checkpoint.digest, 1), 0.05)
    cancelled = submit(client, checkpoint.digest, 2)
    await eventually(lambda: has_depth(client, 2))
    cancelled.cancel()
    await eventually(lambda: redis.keys("creps:cancelled:*"))
    async with running_worker(redis, tmp_path):
        assert (await client.render(make_spec(checkpoint.digest, 3), LONG)).content == b"8x4 3 png"
        await eventually(lambda: has_depth(client, 0))
    assert [seeds for _, _, seeds in journal(tmp_path)] == [[3]]


async def test_what_nobody_waits_for_any_more_is_rendered_no_further(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """The gate stays closed: the images with the seed WAITS never end by themselves."""
    async with running_worker(redis, tmp_path):
        left = submit(client, checkpoint.digest, stand_in.WAITS)
        await eventually(lambda: len(journal(tmp_path)) == 1)
        left.cancel()
        assert (await client.render(make_spec(checkpoint.digest, 3), LONG)).content == b"8x4 3 png"
        with pytest.raises(DeadlinePassed):
            await client.render(make_spec(checkpoint.digest, stand_in.WAITS), 1.0)
        assert (await client.render(make_spec(checkpoint.digest, 4), LONG)).content == b"8x4 4 png"
        await eventually(lambda: has_depth(client, 0))


async def test_an_emptied_queue_is_begun_anew(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    async with running_worker(redis, tmp_path):
        await client.render(make_spec(checkpoint.digest, 1), LONG)
        await redis.flushall()
        assert (await client.render(make_spec(checkpoint.digest, 2), LONG)).content == b"8x4 2 png"
        await eventually(client.workers)


async def test_a_killed_redis_is_survived(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    async with running_worker(redis, tmp_path):
        await client.render(make_spec(checkpoint.digest, 1), LONG)
        server = (await redis.info("server"))["process_id"]
        waiting = submit(client, checkpoint.digest, stand_in.WAITS)
        await eventually(lambda: len(journal(tmp_path)) == 2)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(RedisConnectionError, match="the queue was lost"):
            await waiting
        open_gate(tmp_path)

        async def is_served_again() -> bool:
            try:
                return (await client.render(make_spec(checkpoint.digest, 2), LONG)).content == b"8x4 2 png"
            except RedisError:
                return False

        await eventually(is_served_again)
        assert (await redis.info("server"))["process_id"] != server
    assert await redis.xinfo_consumers(IMAGES, GROUP) == []


async def test_an_image_is_answered_though_the_tile_that_came_with_it_cannot_be_looked_up(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    await redis.set("creps:job:broken", "no job")  # whoever asks for its order gets an error
    async with running_worker(redis, tmp_path):
        await eventually(client.workers)
        request = RenderRequest(
            "a" * 32, make_spec(checkpoint.digest, 3), time.time(), time.time() + LONG, "creps:replies:x"
        )
        image: Any = request.to_fields()
        async with redis.pipeline(transaction=True) as transaction:  # so that the waiting worker is given both
            transaction.xadd(TILES, {"pixels": 1, "job": "broken", "tile": 0, "tries": 0})
            transaction.xadd(IMAGES, image)
            await transaction.execute()
        await eventually(lambda: redis.xlen("creps:replies:x"))
        assert await redis.xlen(IMAGES) == 0
        await redis.delete("creps:job:broken")
        await eventually(lambda: queue_is_empty(redis, TILES))


async def queue_is_empty(redis: "Redis", stream: str) -> bool:
    return bool(await redis.xlen(stream) == 0)


async def test_a_killed_workers_request_is_answered_by_another(
    client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, start_worker: StartWorker, redis: "Redis"
) -> None:
    first, second = await start_worker(), await start_worker()
    waiting = submit(client, checkpoint.digest, stand_in.WAITS)
    await eventually(lambda: journal(tmp_path))
    victim, heir = (first, second) if journal(tmp_path)[0][0] == first.pid else (second, first)
    victim.kill()
    await victim.wait()
    open_gate(tmp_path)
    assert (await waiting).content == f"8x4 {stand_in.WAITS % 256} png".encode()
    assert [pid for pid, _, _ in journal(tmp_path)] == [victim.pid, heir.pid]

    async def is_swept() -> bool:
        consumers: list[Any] = await redis.xinfo_consumers(IMAGES, GROUP)
        return len(consumers) == 1 and f"-{heir.pid}-".encode() in consumers[0]["name"]

    await eventually(is_swept)


@pytest.mark.slow
async def test_a_deadly_request_is_given_up_and_costs_no_other(
    client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, start_worker: StartWorker, redis: "Redis"
) -> None:
    seeds = [1, 2, stand_in.KILLS, 3, 4]
    tasks = await submit_in_order(client, [(checkpoint.digest, seed) for seed in seeds])
    deadly, innocent = tasks.pop(2), tasks
    killed = []
    for _ in range(3):
        killed.append(await start_worker())
        await asyncio.wait_for(killed[-1].wait(), LONG)
    await start_worker()
    with pytest.raises(RenderFailed, match="3 workers were lost") as failure:
        await deadly
    assert failure.value.kind == "failed"
    contents = [result.content for result in await asyncio.gather(*innocent)]
    assert contents == [f"8x4 {seed} png".encode() for seed in (1, 2, 3, 4)]
    assert [process.returncode for process in killed] == [-signal.SIGKILL] * 3
    batches = [batch for _, _, batch in journal(tmp_path)]
    assert batches[0] == seeds
    assert all(len(batch) == 1 for batch in batches[1:])  # each suspect was tried alone
    assert batches.count([stand_in.KILLS]) == 2
    letters: Any = await redis.xrange(DEAD)
    assert [b"3 workers were lost" in fields[b"error"] for _, fields in letters] == [True]
    await eventually(lambda: has_depth(client, 0))


async def test_a_lost_device_ends_the_worker_and_another_one_takes_over(
    redis: "Redis", client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, start_worker: StartWorker
) -> None:
    other = save_hollow_checkpoint(tmp_path, "other")
    lost = [(checkpoint.digest, seed) for seed in (2, stand_in.LOSES_DEVICE)]
    tasks = await submit_in_order(client, [(other.digest, 1), *lost])
    worker = make_worker(redis, tmp_path)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        await asyncio.wait_for(worker.run(), LONG)
    assert worker.unhealthy_reason == "cpu is lost"
    assert await client.devices_lost() == 1
    assert (await tasks[0]).content == b"8x4 1 png"  # rendered before
    assert not any(task.done() for task in tasks[1:])
    assert [seeds for _, _, seeds in journal(tmp_path)] == [[1], [2, stand_in.LOSES_DEVICE]]  # not one by one
    await start_worker()
    answers = [result.content for result in await asyncio.gather(*tasks[1:])]
    assert answers == [f"8x4 {seed % 256} png".encode() for _, seed in lost]


async def test_sigterm_finishes_what_is_held(
    client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, start_worker: StartWorker, redis: "Redis"
) -> None:
    process = await start_worker()
    held = await submit_in_order(client, [(checkpoint.digest, stand_in.WAITS)])
    await eventually(lambda: journal(tmp_path))
    process.terminate()

    async def is_stopping() -> bool:
        return [worker.state for worker in await client.workers()] == ["stopping"]

    await eventually(is_stopping)
    later = submit(client, checkpoint.digest, 7)
    await eventually(lambda: has_depth(client, 2))
    open_gate(tmp_path)
    assert (await held[0]).content == f"8x4 {stand_in.WAITS % 256} png".encode()
    assert await asyncio.wait_for(process.wait(), LONG) == 0
    assert await client.workers() == []
    assert await redis.xinfo_consumers(IMAGES, GROUP) == []
    assert not later.done()
    await start_worker()
    assert (await later).content == b"8x4 7 png"


async def test_a_worker_tells_what_it_does(
    client: RenderClient, checkpoint: Checkpoint, tmp_path: Path, redis: "Redis"
) -> None:
    seen: list[WorkerInfo] = []

    async def tells(state: str, models: tuple[str, ...]) -> bool:
        seen[:] = await client.workers()
        return [(worker.device, worker.state, worker.models) for worker in seen] == [("cpu", state, models)]

    async with running_worker(redis, tmp_path):
        await eventually(lambda: tells("idle", (checkpoint.digest,)))
        task = submit(client, checkpoint.digest, stand_in.WAITS)
        await eventually(lambda: tells("busy", (checkpoint.digest,)))
        open_gate(tmp_path)
        await task
        await eventually(lambda: tells("idle", (checkpoint.digest,)))
    assert await client.workers() == []
