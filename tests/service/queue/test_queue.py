"""The queue against a real server: the gateway's client and the workers' consumer, without rendering."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from model.errors import InputError
from service.queue.client import RenderClient
from service.queue.consumer import MAX_DELIVERIES, BatchLimit, Consumer, QueuedRender
from service.queue.messages import (
    DeadlinePassed,
    QueueFull,
    RenderFailed,
    RenderRequest,
    RenderResult,
    ReplyHeader,
    WorkerInfo,
)
from service.runtime.redis import connect
from service.runtime.redis_keys import BATCH, DEAD, GROUP, IMAGES, TILES, cancelled_key
from tests.service.stand_in import make_spec
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64
MANY = 1 << 30
LIMIT = 50

HEARTBEAT_TIMEOUT = 0.3
"""Seconds; few, since a test waits until a heartbeat has expired."""


@pytest.fixture
async def client(redis: "Redis") -> AsyncIterator[RenderClient]:
    async with RenderClient(redis, LIMIT) as client:
        yield client


@pytest.fixture
async def consumer(redis: "Redis") -> Consumer:
    return await joined(redis, "first")


async def joined(redis: "Redis", name: str) -> Consumer:
    consumer = Consumer(redis, name, HEARTBEAT_TIMEOUT)
    await consumer.join()
    return consumer


async def read(consumer: Consumer, count: int) -> list[QueuedRender]:
    taken: list[QueuedRender] = []
    async with asyncio.timeout(LONG):
        while len(taken) < count:
            taken += await take_some(consumer, count - len(taken), MANY)
    return taken


async def take_some(consumer: Consumer, count: int, pixels: int) -> list[QueuedRender]:
    taken = await consumer.read(
        {IMAGES: BatchLimit(count, pixels), BATCH: BatchLimit(count, pixels), TILES: BatchLimit(1, 1)}
    )
    assert all(isinstance(delivery, QueuedRender) for delivery in taken)
    return [delivery for delivery in taken if isinstance(delivery, QueuedRender)]


async def entries_of(redis: "Redis", stream: str) -> list[dict[bytes, bytes]]:
    entries: Any = await redis.xrange(stream)
    return [fields for _, fields in entries]


def submit(client: RenderClient, seed: int = 1, timeout: float = LONG) -> "asyncio.Task[RenderResult]":
    return asyncio.create_task(client.render(make_spec(DIGEST, seed), timeout))


def heartbeat(consumer: Consumer) -> WorkerInfo:
    return WorkerInfo(consumer.name, "cpu", "busy", (DIGEST,))


async def lag_and_pending(redis: "Redis") -> tuple[int | None, int]:
    groups: list[dict[str, int]] = await redis.xinfo_groups(IMAGES)
    return groups[0]["lag"], groups[0]["pending"]


async def test_a_request_comes_back_as_its_reply(redis: "Redis", client: RenderClient, consumer: Consumer) -> None:
    task = submit(client, seed=7)
    (delivery,) = await read(consumer, 1)
    assert delivery.request.spec == make_spec(DIGEST, 7)
    assert (await client.depths())["pictures"] == 1
    content = bytes(range(256))
    await consumer.reply([(delivery, (ReplyHeader(delivery.request.id, 0.25, 0.125), content))])
    result = await task
    assert (result.content, result.render_seconds, result.encode_seconds) == (content, 0.25, 0.125)
    assert (await client.depths())["pictures"] == 0
    assert await lag_and_pending(redis) == (0, 0)


async def test_replies_reach_those_who_asked(client: RenderClient, consumer: Consumer) -> None:
    tasks = [submit(client, seed) for seed in range(40)]
    for delivery in reversed(await read(consumer, 40)):
        seed = str(delivery.request.spec.latent.seed).encode()
        await consumer.reply([(delivery, (ReplyHeader(delivery.request.id, 0, 0), seed))])
        await consumer.reply([(delivery, (ReplyHeader(delivery.request.id, 0, 0), b"the second is ignored"))])
    assert [result.content for result in await asyncio.gather(*tasks)] == [str(seed).encode() for seed in range(40)]


async def test_requests_that_came_before_any_worker_are_served(redis: "Redis", client: RenderClient) -> None:
    task = submit(client)
    await eventually(lambda: depth_is(client, 1))
    (delivery,) = await read(await joined(redis, "late"), 1)
    await consumer_answers(await joined(redis, "late"), delivery)
    assert (await task).content == b"drawn"


async def consumer_answers(consumer: Consumer, delivery: QueuedRender) -> None:
    await consumer.reply([(delivery, (ReplyHeader(delivery.request.id, 0, 0), b"drawn"))])


async def test_a_failure_keeps_its_kind_field_and_message(client: RenderClient, consumer: Consumer) -> None:
    task = submit(client)
    (delivery,) = await read(consumer, 1)
    failed = RenderFailed("invalid", "has no classes", "class_index")
    await consumer.reply([(delivery, (ReplyHeader.of_failure(delivery.request.id, failed), b""))])
    with pytest.raises(RenderFailed, match=r"^has no classes$") as failure:
        await task
    assert (failure.value.kind, failure.value.field) == ("invalid", "class_index")


async def test_the_queue_is_bounded_by_what_waits_and_runs(redis: "Redis", consumer: Consumer) -> None:
    async with RenderClient(redis, 3) as small:
        tasks = [submit(small) for _ in range(3)]
        held = await read(consumer, 2)
        await eventually(lambda: depth_is(small, 3))
        with pytest.raises(QueueFull) as full:
            await small.render(make_spec(DIGEST), LONG)
        assert full.value.retry_after >= 1
        for delivery in held + await read(consumer, 1):
            await consumer_answers(consumer, delivery)
        await asyncio.gather(*tasks)
        last = submit(small)
        await consumer_answers(consumer, (await read(consumer, 1))[0])
        await last


async def depth_is(client: RenderClient, depth: int) -> bool:
    return (await client.depths())["pictures"] == depth


async def test_never_more_are_admitted_at_once(redis: "Redis", client: RenderClient) -> None:
    tasks = [submit(client) for _ in range(3 * LIMIT)]
    await eventually(lambda: sum(task.done() for task in tasks) == 2 * LIMIT)
    assert await redis.xlen(IMAGES) == LIMIT
    refused = [task for task in tasks if task.done()]
    assert all(isinstance(task.exception(), QueueFull) for task in refused)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize(("age", "expected"), [(20, range(20, 30)), (3000, range(60, 61))])
async def test_retry_after_is_how_long_the_queue_takes(redis: "Redis", age: int, expected: range) -> None:
    seconds, _ = await redis.time()
    await redis.xadd(IMAGES, {"pixels": 1}, id=f"{(seconds - age) * 1000}-0")
    async with RenderClient(redis, 1) as client:
        with pytest.raises(QueueFull) as full:
            await client.render(make_spec(DIGEST), LONG)
    assert full.value.retry_after in expected


async def test_nobody_waits_beyond_the_deadline(client: RenderClient, consumer: Consumer) -> None:
    with pytest.raises(DeadlinePassed):
        await client.render(make_spec(DIGEST), 0.05)
    (delivery,) = await read(consumer, 1)
    assert delivery.request.deadline < time.time()
    await consumer_answers(consumer, delivery)  # too late, and no harm
    task = submit(client)
    await consumer_answers(consumer, (await read(consumer, 1))[0])
    assert (await task).content == b"drawn"


async def test_a_cancelled_request_is_marked_and_stays_in_its_place(
    redis: "Redis", client: RenderClient, consumer: Consumer
) -> None:
    tasks = [submit(client, seed) for seed in range(3)]
    await eventually(lambda: depth_is(client, 3))
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert await lag_and_pending(redis) == (3, 0)
    await eventually(lambda: redis.keys("creps:cancelled:*"))
    taken = await read(consumer, 3)
    assert [delivery.request.spec.latent.seed for delivery in taken if delivery.cancelled] == [1]
    for delivery in taken:
        await consumer_answers(consumer, delivery)
    await asyncio.gather(tasks[0], tasks[2])


async def test_a_cancelled_call_ends_whenever_it_is_cancelled(client: RenderClient) -> None:
    tasks = []
    for turns in range(20):
        task = submit(client)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        tasks.append(task)
    done, _ = await asyncio.wait(tasks, timeout=LONG)
    assert len(done) == len(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_those_who_wait_learn_that_the_queue_is_lost(redis: "Redis", client: RenderClient) -> None:
    task = submit(client)
    await eventually(lambda: depth_is(client, 1))

    async def is_told() -> bool:
        await redis.client_kill_filter(_type="normal", skipme=True)  # again, where nothing was being read just then
        return task.done()

    await eventually(is_told)
    with pytest.raises(RedisConnectionError):
        await task


async def test_what_a_dead_gateway_leaves_expires(redis: "Redis", client: RenderClient, consumer: Consumer) -> None:
    request = RenderRequest("1" * 32, make_spec(DIGEST), time.time(), time.time() + LONG, "creps:replies:dead")
    fields: dict[Any, Any] = {**request.to_fields()}
    await redis.xadd(IMAGES, fields)
    await consumer_answers(consumer, (await read(consumer, 1))[0])
    assert 0 < await redis.ttl("creps:replies:dead") <= 60
    async with RenderClient(redis, LIMIT) as other:
        task = submit(other)
        await consumer_answers(consumer, (await read(consumer, 1))[0])
        await task
    keys = {key async for key in redis.scan_iter("creps:replies:*")}
    assert keys <= {b"creps:replies:dead", client._replies.encode()}


async def test_a_hand_is_bounded_by_count_and_by_pixels(client: RenderClient, consumer: Consumer) -> None:
    tasks = [submit(client) for _ in range(7)]
    await eventually(lambda: depth_is(client, 7))
    pixels = make_spec(DIGEST).viewport.pixels
    hands = [
        await take_some(consumer, 4, MANY),
        await take_some(consumer, 4, pixels + 1),
        await take_some(consumer, 4, 1),
    ]
    assert [len(hand) for hand in hands] == [4, 2, 1]
    assert await take_some(consumer, 4, MANY) == []
    for delivery in itertools.chain(*hands):
        await consumer_answers(consumer, delivery)
    await asyncio.gather(*tasks)


async def make_stale(redis: "Redis", worker: str, entry: bytes) -> None:
    """As if the worker had sent no heartbeat for a long time."""
    await redis.xclaim(IMAGES, GROUP, worker, 0, [entry], idle=10**6, justid=True)


async def test_a_request_that_kills_its_workers_is_given_up(
    redis: "Redis", client: RenderClient, consumer: Consumer
) -> None:
    task = submit(client)
    (item,) = await read(consumer, 1)
    holder = consumer.name
    for number in range(MAX_DELIVERIES[IMAGES]):
        await make_stale(redis, holder, item.entry)
        holder = f"worker-{number}"
        claimed = await Consumer(redis, holder, LONG).claim_stale()
        assert (claimed == item) == (number < MAX_DELIVERIES[IMAGES] - 1)
    with pytest.raises(RenderFailed, match="3 workers were lost") as failure:
        await task
    assert failure.value.kind == "failed"
    assert [b"3 workers were lost" in letter[b"error"] for letter in await entries_of(redis, DEAD)] == [True]
    assert await redis.xlen(IMAGES) == 0


async def test_only_requests_without_heartbeat_are_taken_over(
    redis: "Redis", client: RenderClient, consumer: Consumer
) -> None:
    tasks = [submit(client, seed) for seed in range(2)]
    entries: list[Any] = [delivery.entry for delivery in await read(consumer, 2)]
    other = Consumer(redis, "other", LONG)

    async def let_time_pass() -> None:
        await redis.xclaim(IMAGES, GROUP, "first", 0, entries, idle=10**6, justid=True)

    await let_time_pass()
    await consumer.heartbeat(heartbeat(consumer))
    assert await other.claim_stale() is None
    await let_time_pass()
    found = [await other.claim_stale() for _ in range(2)]
    taken = [delivery for delivery in found if isinstance(delivery, QueuedRender)]
    assert [delivery.entry for delivery in taken] == entries
    assert {entry["times_delivered"] for entry in await redis.xpending_range(IMAGES, GROUP, "-", "+", 2)} == {2}
    for delivery in taken:
        await consumer_answers(other, delivery)
    await asyncio.gather(*tasks)


async def test_a_workers_own_late_heartbeat_is_no_worker_lost(
    redis: "Redis", client: RenderClient, consumer: Consumer
) -> None:
    task = submit(client)
    (delivery,) = await read(consumer, 1)
    for _ in range(MAX_DELIVERIES[IMAGES] + 1):
        # As it stands when no heartbeat has come for long.
        await redis.xclaim(IMAGES, GROUP, "first", 0, [delivery.entry], idle=10**6, justid=True)
        assert await consumer.claim_stale() is None
    (pending,) = await redis.xpending_range(IMAGES, GROUP, "-", "+", 2)
    assert pending["times_delivered"] == 1
    await consumer_answers(consumer, delivery)
    await task


async def test_of_what_a_dead_worker_left_only_what_is_wanted_is_drawn(
    redis: "Redis", client: RenderClient, consumer: Consumer
) -> None:
    tasks = [submit(client, seed) for seed in range(3)]
    lost, gone, wanted = await read(consumer, 3)
    for item in (lost, gone, wanted):
        await make_stale(redis, "first", item.entry)
    await redis.xdel(IMAGES, lost.entry)
    await redis.set(cancelled_key(gone.request.id), 1)
    other = Consumer(redis, "other", LONG)
    taken = [await other.claim_stale() for _ in range(3)]
    assert taken == [replace(gone, cancelled=True), wanted, None]
    assert await redis.xpending(IMAGES, GROUP) | {"min": 0, "max": 0} == {
        "pending": 2,
        "min": 0,
        "max": 0,
        "consumers": [{"name": b"other", "pending": 2}],
    }
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_leaves_keeps_nothing_from_others(redis: "Redis", client: RenderClient, consumer: Consumer) -> None:
    task = submit(client)
    await read(consumer, 1)
    await eventually(lambda: tells(client, consumer))
    await consumer.leave()
    assert await client.workers() == []
    other = await joined(redis, "other")
    await other.heartbeat(heartbeat(other))
    taken: list[QueuedRender] = []

    async def claim_stale() -> bool:
        delivery = await other.claim_stale()
        taken.extend([delivery] if isinstance(delivery, QueuedRender) else [])
        return bool(taken)

    await eventually(claim_stale)
    await consumer_answers(other, taken[0])
    await task

    async def is_swept() -> bool:
        await other.sweep()
        return [info["name"] for info in await redis.xinfo_consumers(IMAGES, GROUP)] == [b"other"]

    await eventually(is_swept)


async def test_what_cannot_be_read_becomes_a_dead_letter(redis: "Redis", consumer: Consumer) -> None:
    await redis.xadd(IMAGES, {"pixels": 1, "id": "x", "reply": "creps:replies:x", "request": b"\x90"})
    assert await take_some(consumer, 8, MANY) == []
    (letter,) = await entries_of(redis, DEAD)
    assert b"could not read the request" in letter[b"error"]
    assert letter[b"request"] == b"\x90"
    (reply,) = await entries_of(redis, "creps:replies:x")
    assert [ReplyHeader.decode(name).failure for name in reply] == ["failed"]
    assert await redis.xlen(IMAGES) == 0


async def test_workers_tell_what_they_are(redis: "Redis", client: RenderClient, consumer: Consumer) -> None:
    await eventually(lambda: tells(client, consumer))
    await eventually(lambda: no_workers(client))  # a heartbeat's word lasts no longer than our patience


async def tells(client: RenderClient, consumer: Consumer) -> bool:
    """Whether Redis knows the only worker. Its heartbeat expires where this process stands still."""
    await consumer.heartbeat(heartbeat(consumer))
    return await client.workers() == [WorkerInfo("first", "cpu", "busy", (DIGEST,))]


async def no_workers(client: RenderClient) -> bool:
    return not await client.workers()


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://:se/cret@localhost:x"])
def test_an_address_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(InputError) as error:
        connect(url)
    assert error.value.field == "redis_url"
    assert "cret" not in error.value.message
