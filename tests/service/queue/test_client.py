"""Replies that are large, that cannot be read or that make no sense: who else waits gets a picture all the same."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service.queue.client import RenderClient
from service.queue.messages import RenderResult, ReplyHeader
from service.runtime import redis as redis_module
from service.runtime.pipelined_redis import Command, PipelinedRedis
from service.runtime.redis import connect
from service.runtime.redis_keys import IMAGES
from tests.service.stand_in import make_spec
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

IMAGE = 1_000_000
"""Bytes."""


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def weak_network(redis_path: str, most: int) -> AsyncIterator[str]:
    """The address of a Redis whose answers stop coming after so many bytes, as on a network that is too slow."""
    copying: set[asyncio.Task[None]] = set()

    async def connected(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        redis, to_redis = await asyncio.open_unix_connection(redis_path)
        answered = 0

        async def ask() -> None:
            nonlocal answered
            with contextlib.suppress(ConnectionError):  # a client that gives up resets its connection
                while data := await client.read(1 << 16):
                    answered = 0
                    to_redis.write(data)
            await close(to_redis)

        async def answer() -> None:
            nonlocal answered
            with contextlib.suppress(ConnectionError):
                while data := await redis.read(1 << 16):
                    answered += len(data)
                    if answered <= most:
                        to_client.write(data)
            await close(to_client)

        copying.update((asyncio.create_task(ask()), asyncio.create_task(answer())))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.wait(copying, timeout=LONG)


@pytest.fixture
def answer_seconds() -> float:
    """The network is weak by bytes, not by time: nothing is lost where this process is held up."""
    return LONG


@pytest.fixture
async def client(redis_url: str, monkeypatch: pytest.MonkeyPatch, answer_seconds: float) -> AsyncIterator[RenderClient]:
    """Its network carries one picture in the time that an answer may take, but not two."""
    monkeypatch.setattr(redis_module, "REDIS_TIMEOUT", answer_seconds)
    async with (
        weak_network(redis_url.removeprefix("unix://"), most=IMAGE * 3 // 2) as url,
        connect(url) as redis,
        RenderClient(redis, 100) as client,
    ):
        yield client


def submit(client: RenderClient, seed: int = 1) -> "asyncio.Task[RenderResult]":
    return asyncio.create_task(client.render(make_spec("d" * 64, seed), LONG))


async def draw(redis: "Redis", count: int, size: int) -> None:
    """Answers so many requests, once all are there, in one go."""

    async def are_there() -> bool:
        return await redis.xlen(IMAGES) == count

    await eventually(are_there)
    requests: Any = await redis.xrange(IMAGES)
    async with redis.pipeline() as transaction:
        for entry, request in requests:
            reply: dict[Any, Any] = {ReplyHeader(request[b"id"].decode()).encode(): bytes(size)}
            transaction.xadd(request[b"reply"], reply)
            transaction.xdel(IMAGES, entry)
        await transaction.execute()


async def test_large_images_that_are_ready_at_once_all_come(redis: "Redis", client: RenderClient) -> None:
    tasks = [submit(client, seed) for seed in range(8)]
    await draw(redis, len(tasks), IMAGE)
    assert [len(result.content) for result in await asyncio.gather(*tasks)] == [IMAGE] * len(tasks)


@pytest.mark.parametrize("answer_seconds", [2.0])
async def test_an_image_that_cannot_come_keeps_no_other_from_coming(redis: "Redis", client: RenderClient) -> None:
    task = submit(client)
    await draw(redis, 1, 2 * IMAGE)
    with pytest.raises(RedisConnectionError, match="the queue was lost"):
        await task
    await eventually(lambda: is_well(client))
    task = submit(client)
    await draw(redis, 1, IMAGE)
    assert len((await task).content) == IMAGE


async def is_well(client: RenderClient) -> bool:
    try:
        client.require()
    except RedisConnectionError:
        return False
    return True


async def test_a_reply_that_names_no_request_is_logged_and_removed(
    redis: "Redis", client: RenderClient, caplog: pytest.LogCaptureFixture
) -> None:
    task = submit(client)
    await eventually(lambda: replies_to(redis))
    (stream,) = await replies_to(redis)
    await redis.xadd(stream, {"x": "y"})
    await draw(redis, 1, 8)
    assert (await task).content == bytes(8)
    assert "a reply that cannot be read is removed" in caplog.text

    async def is_empty() -> bool:
        return not await redis.xlen(stream)

    await eventually(is_empty)


async def replies_to(redis: "Redis") -> set[bytes]:
    """The streams that are to take the replies to those who wait."""
    requests: Any = await redis.xrange(IMAGES)
    return {request[b"reply"] for _, request in requests}


async def test_whatever_fails_replies_are_read_again_afterwards(
    redis: "Redis", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    send_all = PipelinedRedis.send_all

    async def fail_to_read(self: PipelinedRedis, commands: Sequence[Command]) -> list[Any]:
        if commands[-1][0] == "XREAD":
            raise ValueError("nobody expected this")
        return await send_all(self, commands)

    async with RenderClient(redis, 100) as client:
        task = submit(client)
        with monkeypatch.context() as broken:
            broken.setattr(PipelinedRedis, "send_all", fail_to_read)
            with pytest.raises(RedisConnectionError, match="nobody expected this"):
                await task
            with pytest.raises(RedisConnectionError, match="nobody expected this"):
                client.require()
            (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert record.exc_info is not None
        await redis.delete(IMAGES)
        await eventually(lambda: is_well(client))
        task = submit(client)
        await draw(redis, 1, 8)
        assert (await task).content == bytes(8)
