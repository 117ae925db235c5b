"""Priorities of keys: a real queue, real gateways, a real worker."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from service.queue.client import RenderClient
from service.queue.consumer import BatchLimit, Consumer, QueuedRender
from service.queue.messages import Priority, QueueFull, RenderResult, ReplyHeader, WorkerInfo
from service.runtime.redis_keys import BATCH, DEAD, GROUP, IMAGES, TILES
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.keyed import as_key, drawing_worker, keyed_gateway, write_keys
from tests.service.stand_in import HEARTBEAT_TIMEOUT, WAITS, journal, make_spec, open_gate
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64
TILE_SEED = 900


def seeds_drawn(folder: Path) -> list[int]:
    return [seed for _, _, seeds in journal(folder) for seed in seeds]


async def test_images_are_drawn_by_their_keys_priority_and_before_tiles(
    redis: "Redis", redis_url: str, tmp_path: Path
) -> None:
    save_hollow_checkpoint(tmp_path, "plain")
    write_keys(tmp_path / "keys.toml", {"page": {}, "program": {"priority": "batch"}})
    async with keyed_gateway(redis_url, tmp_path) as http, drawing_worker(redis, tmp_path, batch_limit=1):
        waiting = [await ask(http, "page", WAITS)]
        await eventually(lambda: seeds_drawn(tmp_path) == [WAITS])
        body = {"model": "plain", "seed": TILE_SEED, "width": 64, "output": "png", "tile": 64}
        assert (await http.post("/v1/jobs", json=body, headers=as_key("page"))).status_code == 202
        await eventually(lambda: has_depths(redis, 1, 0, 1))
        for count, seed in enumerate((1, 2), 1):
            waiting.append(await ask(http, "program", seed))
            await eventually(lambda count=count: has_depths(redis, 1, count, 1))  # type: ignore[misc]
        for count, seed in enumerate((3, 4), 2):
            waiting.append(await ask(http, "page", seed))
            await eventually(lambda count=count: has_depths(redis, count, 2, 1))  # type: ignore[misc]
        metrics = (await http.get("/metrics")).text
        assert 'creps_queue_depth{stream="batch"} 2.0' in metrics
        assert 'creps_queue_depth{stream="pictures"} 3.0' in metrics
        open_gate(tmp_path)
        assert {response.status_code for response in await asyncio.gather(*waiting)} == {200}
        await eventually(lambda: len(seeds_drawn(tmp_path)) == 6)
        assert seeds_drawn(tmp_path) == [WAITS, 3, 4, 1, 2, TILE_SEED]
        await eventually(lambda: has_depths(redis, 0, 0, 0))


async def ask(http: httpx.AsyncClient, key: str, seed: int) -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(http.get(f"/v1/images/plain/{seed}.png", headers=as_key(key)))


async def has_depths(redis: "Redis", *depths: int) -> bool:
    return [await redis.xlen(stream) for stream in (IMAGES, BATCH, TILES)] == list(depths)


async def test_each_priority_has_a_limit_of_its_own(redis: "Redis") -> None:
    consumer = await joined(redis, "worker")
    async with RenderClient(redis, 2) as client:
        many = [submit(client, "batch") for _ in range(2)]
        await eventually(lambda: has_depths(redis, 0, 2, 0))
        with pytest.raises(QueueFull):
            await submit(client, "batch")
        one = submit(client, "interactive")
        await eventually(lambda: has_depths(redis, 1, 2, 0))
        for delivery in [*await read(consumer), *await read(consumer)]:
            await answer(consumer, delivery)
        assert {result.content for result in await asyncio.gather(one, *many)} == {b"drawn"}
    assert await has_depths(redis, 0, 0, 0)


async def test_a_dead_workers_batch_images_are_taken_over_and_nothing_of_it_stays(redis: "Redis") -> None:
    first, other = await joined(redis, "first"), await joined(redis, "other")
    async with RenderClient(redis, 10) as client:
        task = submit(client, "batch")
        await eventually(lambda: has_depths(redis, 0, 1, 0))
        await read(first)
        await other.heartbeat(WorkerInfo("other", "cpu", "idle", ()))
        taken: list[QueuedRender] = []

        async def claim_stale() -> bool:
            delivery = await other.claim_stale()
            taken.extend([delivery] if isinstance(delivery, QueuedRender) else [])
            return bool(taken)

        await eventually(claim_stale)
        await other.heartbeat(WorkerInfo("other", "cpu", "busy", ()))
        await answer(other, taken[0])
        assert (await task).content == b"drawn"

        async def is_swept() -> bool:
            await other.sweep()
            return [info["name"] for info in await redis.xinfo_consumers(BATCH, GROUP)] == [b"other"]

        await eventually(is_swept)
        await other.leave()
        assert await redis.xinfo_consumers(BATCH, GROUP) == []


async def test_batch_requests_that_cannot_be_read_become_dead_letters(redis: "Redis") -> None:
    consumer = await joined(redis, "worker")
    await redis.xadd(BATCH, {"pixels": 1, "id": "x", "reply": "creps:replies:x", "spec": "{}"})
    assert await read(consumer) == []
    assert await redis.xlen(DEAD) == 1
    assert await has_depths(redis, 0, 0, 0)


async def joined(redis: "Redis", name: str) -> Consumer:
    consumer = Consumer(redis, name, HEARTBEAT_TIMEOUT)
    await consumer.join()
    return consumer


def submit(client: RenderClient, priority: Priority) -> "asyncio.Task[RenderResult]":
    return asyncio.create_task(client.render(make_spec(DIGEST), LONG, priority))


async def read(consumer: Consumer) -> list[QueuedRender]:
    taken = await consumer.read(dict.fromkeys((IMAGES, BATCH, TILES), BatchLimit(8, 1 << 30)))
    return [delivery for delivery in taken if isinstance(delivery, QueuedRender)]


async def answer(consumer: Consumer, delivery: QueuedRender) -> None:
    await consumer.reply([(delivery, (ReplyHeader(delivery.request.id), b"drawn"))])
