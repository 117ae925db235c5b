"""The image cache against a real server; two caches stand for two gateways."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from model.errors import InputError
from service.gateway import image_cache
from service.gateway.errors import RateLimitExceededError
from service.gateway.image_cache import ImageCache, open_image_cache
from service.queue.messages import DeadlinePassed, QueueFull, RenderFailed, RenderResult
from service.runtime.redis import connect
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

KEYS = [f"1-{letter * 64}" for letter in "abcdefgh"]
KEY = KEYS[0]
CONTENT = bytes(range(256)) * 4
RENDERED = RenderResult(CONTENT, 0.125, 0.25, 0.5, "fp32")


class Renderer:
    """Returns an image once its gate is open, or fails."""

    def __init__(self, content: bytes = CONTENT, *, is_open: bool = False) -> None:
        self.content = content
        self.started = 0
        self.cancelled = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, seconds: float) -> RenderResult:
        self.started += 1
        assert 0 < seconds <= 2 * LONG
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        return RenderResult(self.content, 0.125, 0.25, 0.5, "fp32")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "RETRY_SECONDS", 0.0)


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[ImageCache]:
    async with open_image_cache(redis_url) as cache:
        yield cache


@pytest.fixture
async def other_cache(redis_url: str) -> AsyncIterator[ImageCache]:
    """The cache of another gateway."""
    async with open_image_cache(redis_url) as cache:
        yield cache


def fetch(cache: ImageCache, renderer: Renderer, key: str = KEY, timeout: float = LONG) -> "asyncio.Task[RenderResult]":
    return asyncio.create_task(cache.fetch(key, renderer, timeout))


async def start(cache: ImageCache, renderer: Renderer) -> "asyncio.Task[RenderResult]":
    task = fetch(cache, renderer)
    await eventually(lambda: renderer.started)
    return task


async def outcome(cache: ImageCache, key: str = KEY) -> str:
    """How the cache answers a request that would be rendered at once."""
    result = await cache.fetch(key, Renderer(is_open=True), LONG)
    await cache.finish()
    assert result.content == CONTENT
    return result.cache


def counted() -> dict[str, float]:
    return {
        result: REGISTRY.get_sample_value("creps_cache_requests_total", {"cache": "pictures", "result": result}) or 0.0
        for result in ("hit", "miss", "shared")
    }


class TestHits:
    async def test_without_a_server_nothing_is_stored(self) -> None:
        async with open_image_cache(None) as cache:
            assert [await cache.fetch(KEY, Renderer(is_open=True), LONG) for _ in range(2)] == [RENDERED] * 2
            assert await cache.used_bytes() == 0
            renderer = Renderer()
            tasks = [await start(cache, renderer), fetch(cache, renderer)]
            await asyncio.sleep(0)
            renderer.gate.set()
            assert [(await task).cache for task in tasks] == ["miss", "shared"]

    async def test_gateways_share_images(self, cache: ImageCache, other_cache: ImageCache) -> None:
        before, renderer = counted(), Renderer(is_open=True)
        assert await cache.fetch(KEY, renderer, LONG) == RENDERED
        await cache.finish()
        for either in (cache, other_cache):
            result = await either.fetch(KEY, renderer, LONG)
            assert (result.content, result.cache) == (CONTENT, "hit")
            assert (result.render_seconds, result.encode_seconds) == (0, 0)
        assert renderer.started == 1
        assert counted() == {"hit": before["hit"] + 2, "miss": before["miss"] + 1, "shared": before["shared"]}

    async def test_images_expire(self, redis: "Redis", cache: ImageCache) -> None:
        await outcome(cache)
        (name,) = await redis.keys("*")
        assert 0 < await redis.ttl(name) <= image_cache.TTL_SECONDS

    async def test_used_bytes_are_what_the_server_compares_with_its_limit(
        self, redis: "Redis", cache: ImageCache
    ) -> None:
        before = await cache.used_bytes()
        await redis.set("key", bytes(1_000_000))
        after = await cache.used_bytes()
        assert before is not None
        assert after is not None
        assert after - before >= 1_000_000

    async def test_an_address_that_cannot_be_parsed_is_refused(self) -> None:
        with pytest.raises(InputError) as error:
            async with open_image_cache("redis://:secret@localhost:x"):
                pytest.fail("it must not open")
        assert error.value.field == "cache_url"
        assert "secret" not in str(error.value)


class TestSharing:
    async def test_many_requests_at_once_render_once(self, cache: ImageCache) -> None:
        before, renderer = counted(), Renderer()
        tasks = [await start(cache, renderer), *(fetch(cache, renderer) for _ in range(9))]
        await asyncio.sleep(0)
        renderer.gate.set()
        results = await asyncio.gather(*tasks)
        assert renderer.started == 1
        assert [result.content for result in results] == [CONTENT] * 10
        assert [result.cache for result in results] == ["miss", *["shared"] * 9]
        assert counted() == {"hit": before["hit"], "miss": before["miss"] + 1, "shared": before["shared"] + 9}

    async def test_other_images_do_not_wait(self, cache: ImageCache) -> None:
        stuck = await start(cache, Renderer())
        assert await outcome(cache, KEYS[1]) == "miss"
        stuck.cancel()

    async def test_another_priority_does_not_wait(self, cache: ImageCache) -> None:
        batch = Renderer()
        first = asyncio.create_task(cache.fetch(KEY, batch, LONG, "batch"))
        await eventually(lambda: batch.started)
        assert await outcome(cache) == "miss"
        first.cancel()

    async def test_work_goes_on_when_its_leader_leaves(self, cache: ImageCache) -> None:
        renderer = Renderer()
        leader, waiter = await start(cache, renderer), fetch(cache, renderer)
        await asyncio.sleep(0)
        leader.cancel()
        await asyncio.wait([leader])
        renderer.gate.set()
        assert (await waiter).cache == "shared"
        assert (renderer.started, renderer.cancelled) == (1, 0)
        await cache.finish()
        assert await outcome(cache) == "hit"

    async def test_work_goes_on_when_its_leaders_time_is_up(self) -> None:
        async with open_image_cache(None) as cache:  # a look-up could take all the time
            renderer = Renderer()
            leader, waiter = fetch(cache, renderer, timeout=0.5), fetch(cache, renderer)  # both start in the next turn
            with pytest.raises(DeadlinePassed):
                await leader
            renderer.gate.set()
            assert (await waiter).cache == "shared"
            assert (renderer.started, renderer.cancelled) == (1, 0)

    async def test_work_is_cancelled_when_all_leave(self, redis: "Redis", cache: ImageCache) -> None:
        renderer = Renderer()
        tasks = [await start(cache, renderer), fetch(cache, renderer), fetch(cache, renderer)]
        await asyncio.sleep(0)
        for count, task in enumerate(tasks, start=1):
            assert renderer.cancelled == 0
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert renderer.cancelled == (count == 3)
        assert await redis.dbsize() == 0
        assert await outcome(cache) == "miss"

    async def test_a_request_while_all_others_leave_is_served(self, cache: ImageCache) -> None:
        renderer = Renderer()
        first = await start(cache, renderer)
        first.cancel()
        await asyncio.sleep(0)  # its work is being cancelled now
        second = fetch(cache, renderer)
        renderer.gate.set()
        assert (await second).content == CONTENT

    @pytest.mark.parametrize("failure", [QueueFull(3), RenderFailed("memory", "too large"), RuntimeError("a bug")])
    async def test_an_error_reaches_all_waiters_and_is_not_stored(self, cache: ImageCache, failure: Exception) -> None:
        renderer = Renderer()
        renderer.failure = failure
        tasks = [await start(cache, renderer), fetch(cache, renderer), fetch(cache, renderer)]
        await asyncio.sleep(0)
        renderer.gate.set()
        assert await asyncio.gather(*tasks, return_exceptions=True) == [failure] * 3
        assert renderer.started == 1
        assert await outcome(cache) == "miss"

    @pytest.mark.parametrize("failure", [DeadlinePassed("within 2 s"), RateLimitExceededError("spent", 1)])
    async def test_after_an_error_of_the_leader_alone_the_next_leads(
        self, cache: ImageCache, failure: Exception
    ) -> None:
        refused, renderer = Renderer(), Renderer(is_open=True)
        refused.failure = failure
        leader = await start(cache, refused)
        waiters = [fetch(cache, renderer) for _ in range(3)]
        await asyncio.sleep(0)
        refused.gate.set()
        assert [(await waiter).cache for waiter in waiters] == ["miss", "shared", "shared"]
        assert (refused.started, renderer.started) == (1, 1)
        with pytest.raises(type(failure)):
            await leader

    async def test_a_waiter_has_no_more_than_its_own_time(self, cache: ImageCache) -> None:
        renderer = Renderer()
        leader = await start(cache, renderer)
        with pytest.raises(DeadlinePassed):
            await cache.fetch(KEY, renderer, timeout=0.1)
        renderer.gate.set()
        assert (await leader).content == CONTENT
        assert renderer.started == 1


@asynccontextmanager
async def held_writes(redis: "Redis") -> AsyncIterator[None]:
    """The server takes no SET while the block runs."""
    await redis.client_pause(round(1000 * LONG), all=False)
    try:
        yield
    finally:
        await redis.client_unpause()


class TestStoring:
    async def test_the_answer_comes_first(self, redis: "Redis", cache: ImageCache) -> None:
        renderer = Renderer(is_open=True)
        async with held_writes(redis):
            assert await cache.fetch(KEY, renderer, LONG) == RENDERED
            assert await redis.dbsize() == 0
            for priority in ("interactive", "batch"):
                result = await cache.fetch(KEY, renderer, LONG, priority)
                assert (result.content, result.cache) == (CONTENT, "hit"), "an image that is being stored is there"
        await cache.finish()
        assert await redis.dbsize() == 1
        assert renderer.started == 1

    async def test_a_slow_server_fills_no_memory(
        self, redis: "Redis", cache: ImageCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(image_cache, "MAX_PENDING_BYTES", 2 * len(b"fp32\n" + CONTENT))
        async with held_writes(redis):
            for key in KEYS[:4]:
                assert (await cache.fetch(key, Renderer(is_open=True), LONG)).cache == "miss"
        await cache.finish()
        assert await redis.dbsize() == 2
        assert [await outcome(cache, key) for key in KEYS[:3]] == ["hit", "hit", "miss"]
        assert await outcome(cache, KEYS[2]) == "hit", "there is room again"

    async def test_large_images_are_not_stored(
        self, redis: "Redis", cache: ImageCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = len(b"fp32\n" + CONTENT)
        for limit, stored in ((size - 1, 0), (size, 1)):
            monkeypatch.setattr(image_cache, "MAX_IMAGE_BYTES", limit)
            await outcome(cache)
            assert await redis.dbsize() == stored

    async def test_a_server_that_hangs_does_not_keep_a_gateway_from_stopping(
        self, redis: "Redis", redis_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(image_cache, "STORE_TIMEOUT", 0.2)
        others = asyncio.all_tasks()
        async with held_writes(redis), asyncio.timeout(LONG):
            async with open_image_cache(redis_url) as cache:
                await cache.fetch(KEY, Renderer(is_open=True), LONG)
            assert asyncio.all_tasks() == others


@asynccontextmanager
async def limited(redis: "Redis", maxmemory: int, policy: str) -> AsyncIterator[None]:
    await redis.config_set("maxmemory-policy", policy)
    await redis.config_set("maxmemory", maxmemory)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)
        await redis.config_set("maxmemory-policy", "noeviction")


class TestFailures:
    """No failure of the cache fails a request, or delays it by more than one short look-up."""

    async def test_a_server_that_never_answers_is_asked_once_in_a_while(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(image_cache, "LOOKUP_TIMEOUT", 0.1)
        monkeypatch.setattr(image_cache, "STORE_TIMEOUT", 0.1)
        monkeypatch.setattr(image_cache, "RETRY_SECONDS", LONG)
        connections = 0

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.read()  # until the client gives up
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, open_image_cache(url) as cache:
            started = time.monotonic()
            assert [await outcome(cache) for _ in range(100)] == ["miss"] * 100
            assert time.monotonic() - started < LONG / 2, "a connection's own time limit is LONG"
            assert connections == 1
            assert await cache.used_bytes() is None
            assert len(caplog.records) == 1
        monkeypatch.setattr(image_cache, "RETRY_SECONDS", 0.2)
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, open_image_cache(url) as cache:

            async def is_asked_again() -> bool:
                assert await outcome(cache) == "miss"
                return connections > 2

            await eventually(is_asked_again)
            assert len(caplog.records) == 2

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$nonsense\r\n", b""])
    async def test_a_server_that_is_no_redis(self, answer: bytes) -> None:
        async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, open_image_cache(url) as cache:
            assert await outcome(cache) == "miss"

    async def test_a_server_that_is_gone_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        async with open_image_cache("unix:///nowhere/socket") as cache:
            assert [await outcome(cache) for _ in range(3)] == ["miss"] * 3
            assert await cache.used_bytes() is None
        assert len(caplog.records) == 1

    async def test_a_server_that_hangs_and_goes_on(
        self, redis: "Redis", cache: ImageCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        await outcome(cache)
        server = (await redis.info("server"))["process_id"]
        for outage in (1, 2):
            with monkeypatch.context() as hurried:
                hurried.setattr(image_cache, "LOOKUP_TIMEOUT", 0.1)
                hurried.setattr(image_cache, "STORE_TIMEOUT", 0.1)
                os.kill(server, signal.SIGSTOP)
                try:
                    assert [await outcome(cache) for _ in range(3)] == ["miss"] * 3
                finally:
                    os.kill(server, signal.SIGCONT)
            assert await outcome(cache) == "hit"
            assert await outcome(cache, KEYS[outage]) == "miss"
            assert len(caplog.records) == outage

    async def test_a_full_server_that_refuses(
        self, redis: "Redis", cache: ImageCache, caplog: pytest.LogCaptureFixture
    ) -> None:
        await outcome(cache, KEYS[0])
        async with limited(redis, 1, "noeviction"):
            assert [await outcome(cache, KEYS[1]) for _ in range(3)] == ["miss"] * 3
            assert await outcome(cache, KEYS[0]) == "hit", "what is stored is still found"
        assert len(caplog.records) == 1
        assert [await outcome(cache, KEYS[1]) for _ in range(2)] == ["miss", "hit"]

    async def test_a_full_server_that_evicts(self, redis: "Redis", cache: ImageCache) -> None:
        memory: Any = await redis.info("memory")
        content = bytes(20_000)
        async with limited(redis, memory["used_memory"] + 1_000_000, "allkeys-lru"):
            for i in range(100):
                await cache.fetch(f"1-{i:064}", Renderer(content, is_open=True), LONG)
                await cache.finish()
            assert 10 < await redis.dbsize() < 100
            assert (await cache.fetch(f"1-{99:064}", Renderer(content, is_open=True), LONG)).cache == "hit"

    async def test_a_server_that_is_restarted_empty(self, redis: "Redis", redis_url: str, cache: ImageCache) -> None:
        assert [await outcome(cache) for _ in range(2)] == ["miss", "hit"]
        process = (await redis.info("server"))["process_id"]
        os.kill(process, signal.SIGKILL)

        async def has_ended() -> bool:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return True
            return False

        await eventually(has_ended)  # until then it may answer
        assert (await cache.fetch(KEY, Renderer(is_open=True), LONG)).content == CONTENT

        async def is_found_again() -> bool:
            return await outcome(cache) == "hit"

        await eventually(is_found_again)
        async with connect(redis_url) as again:
            assert await again.dbsize() == 1
