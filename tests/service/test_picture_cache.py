"""The cache of pictures against a real server; two caches stand for two gateways."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from service import picture_cache
from service.picture_cache import PictureCache
from service.picture_store import PictureStore
from service.queue import DeadlinePassed, QueueFull, RenderFailed, RenderResult, connect
from tests.service.waiting import LONG, eventually

KEYS = [f"1-{letter * 64}" for letter in "abcdefgh"]
KEY = KEYS[0]
LOCK = f"creps:cache:lock:interactive:{KEY}"
LIMIT = 1_000_000
CONTENT = bytes(range(256)) * 4


class Brush:
    """Draws CONTENT once its gate is open, or fails."""

    def __init__(self, content: bytes = CONTENT, *, is_open: bool = False) -> None:
        self.content = content
        self.begun = 0
        self.cancelled = 0
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    async def __call__(self, seconds: float) -> RenderResult:
        self.begun += 1
        assert 0 < seconds <= LONG
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        return RenderResult(self.content, 0.125, 0.25, 0.5)


@pytest.fixture
async def cache(redis: "Redis") -> AsyncIterator[PictureCache]:
    cache = PictureCache(PictureStore(redis, LIMIT))
    yield cache
    await cache.finish()


@pytest.fixture
async def other_cache(redis_url: str) -> AsyncIterator[PictureCache]:
    """Another gateway's."""
    async with connect(redis_url) as redis:
        cache = PictureCache(PictureStore(redis, LIMIT))
        yield cache
        await cache.finish()


@pytest.fixture(autouse=True)
def _lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease ends because this process is held up."""
    monkeypatch.setattr(picture_cache, "LEASE_SECONDS", LONG)


def fetch(cache: PictureCache, brush: Brush, key: str = KEY, timeout: float = LONG) -> "asyncio.Task[RenderResult]":
    return asyncio.create_task(cache.fetch(key, brush, timeout))


async def looks(redis: "Redis") -> int:
    """How often somebody has looked whether another gateway is ready."""
    stats: Any = await redis.info("commandstats")
    return int(stats.get("cmdstat_get", {"calls": 0})["calls"])


async def begin(cache: PictureCache, brush: Brush) -> "asyncio.Task[RenderResult]":
    task = fetch(cache, brush)
    await eventually(lambda: brush.begun)
    return task


async def begin_to_wait(redis: "Redis", cache: PictureCache, brush: Brush) -> "asyncio.Task[RenderResult]":
    """A request that waits for another gateway's picture."""
    before = await looks(redis)
    task = fetch(cache, brush)

    async def looked() -> bool:
        return await looks(redis) > before + 2  # for the picture itself, and for who draws it

    await eventually(looked)
    return task


def requests_counted() -> dict[str, float]:
    return {
        result: REGISTRY.get_sample_value("creps_cache_requests_total", {"cache": "pictures", "result": result}) or 0.0
        for result in ("hit", "miss", "shared")
    }


@pytest.mark.anyio
class TestDrawingOnce:
    async def test_no_bytes_no_cache(self, redis: "Redis") -> None:
        cache, brush = PictureCache(PictureStore(redis, 0)), Brush(is_open=True)
        before = requests_counted()
        for _ in range(2):
            assert await cache.fetch(KEY, brush, LONG) == RenderResult(CONTENT, 0.125, 0.25, 0.5, "miss")
        await cache.store.put(KEY, CONTENT)
        assert await cache.store.get(KEY) is None
        assert brush.begun == 2
        assert await redis.dbsize() == 0
        assert requests_counted() == before

    async def test_without_a_server_all_is_missed(self, caplog: pytest.LogCaptureFixture) -> None:
        async with connect("unix:///nowhere/socket") as redis:
            cache, brush = PictureCache(PictureStore(redis, LIMIT)), Brush(is_open=True)
            for count in (1, 2):
                assert (await cache.fetch(KEY, brush, LONG)).content == CONTENT
                assert brush.begun == count
                await cache.finish()
            assert await cache.store.get(KEY) is None
        assert len(caplog.records) == 1

    async def test_a_picture_is_drawn_once_and_then_found(self, cache: PictureCache, other_cache: PictureCache) -> None:
        before, brush = requests_counted(), Brush(is_open=True)
        assert await cache.fetch(KEY, brush, LONG) == RenderResult(CONTENT, 0.125, 0.25, 0.5, "miss")
        await cache.finish()
        for either in (cache, other_cache):
            result = await either.fetch(KEY, brush, LONG)
            assert (result.content, result.cache) == (CONTENT, "hit")
            assert (result.render_seconds, result.encode_seconds) == (0, 0)
        assert brush.begun == 1
        assert requests_counted() == {"hit": before["hit"] + 2, "miss": before["miss"] + 1, "shared": before["shared"]}

    async def test_many_who_ask_at_once_in_two_gateways(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        before, brush = requests_counted(), Brush()
        tasks = [await begin(cache, brush), await begin_to_wait(redis, other_cache, brush)]
        tasks += [fetch(either, brush) for either in (cache, other_cache) for _ in range(9)]
        brush.gate.set()
        results = await asyncio.gather(*tasks)
        assert brush.begun == 1
        assert [result.content for result in results] == [CONTENT] * 20
        assert [result.cache for result in results] == ["miss", *["shared"] * 19]
        after = requests_counted()
        assert after == {"hit": before["hit"], "miss": before["miss"] + 1, "shared": before["shared"] + 19}
        await cache.finish()
        assert await redis.exists(LOCK) == 0

    async def test_other_pictures_do_not_wait(self, cache: PictureCache) -> None:
        stuck = await begin(cache, Brush())
        assert (await cache.fetch(KEYS[1], Brush(is_open=True), LONG)).cache == "miss"
        stuck.cancel()

    async def test_the_one_who_asked_first_leaves(self, cache: PictureCache) -> None:
        brush = Brush()
        first, second = await begin(cache, brush), fetch(cache, brush)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        brush.gate.set()
        assert (await second).cache == "shared"
        assert (brush.begun, brush.cancelled) == (1, 0)
        await cache.finish()
        assert await cache.store.get(KEY) == CONTENT

    async def test_all_leave(self, redis: "Redis", cache: PictureCache) -> None:
        brush = Brush()
        tasks = [await begin(cache, brush), fetch(cache, brush), fetch(cache, brush)]
        await asyncio.sleep(0)
        for count, task in enumerate(tasks, start=1):
            assert brush.cancelled == 0
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert brush.cancelled == (count == 3)
        assert await redis.keys("creps:cache:*") == []
        assert (await cache.fetch(KEY, Brush(is_open=True), LONG)).cache == "miss"

    async def test_all_leave_while_redis_takes_its_time(
        self, redis: "Redis", cache: PictureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lease = PictureStore.lease

        async def slow(store: PictureStore, flight: str, token: str, seconds: float) -> None:
            await asyncio.sleep(0.3)
            await lease(store, flight, token, seconds)

        monkeypatch.setattr(PictureStore, "lease", slow)
        task = await begin(cache, Brush())
        task.cancel()
        await asyncio.wait([task])
        assert await redis.keys("creps:cache:*") == []

    async def test_who_asks_while_all_others_are_leaving_is_served(self, cache: PictureCache) -> None:
        brush = Brush()
        first = await begin(cache, brush)
        first.cancel()
        await asyncio.sleep(0)  # it is being cancelled now
        second = fetch(cache, brush)
        brush.gate.set()
        assert (await second).content == CONTENT

    async def test_all_leave_in_the_gateway_that_draws(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        brush, others_brush = Brush(), Brush(is_open=True)
        first, second = await begin(cache, brush), await begin_to_wait(redis, other_cache, others_brush)
        first.cancel()
        assert (await second).cache == "miss"
        assert (brush.cancelled, others_brush.begun) == (1, 1)

    @pytest.mark.parametrize(
        "failure",
        [QueueFull(3), RenderFailed("memory", "too large"), RuntimeError("a mistake")],
    )
    async def test_an_error_reaches_all_and_is_not_kept(self, cache: PictureCache, failure: Exception) -> None:
        brush = Brush()
        brush.failure = failure
        tasks = [await begin(cache, brush), fetch(cache, brush), fetch(cache, brush)]
        await asyncio.sleep(0)
        brush.gate.set()
        assert await asyncio.gather(*tasks, return_exceptions=True) == [failure] * 3
        assert brush.begun == 1
        brush.failure = None
        assert (await cache.fetch(KEY, brush, LONG)).cache == "miss"
        assert brush.begun == 2

    async def test_after_an_error_the_other_gateway_draws_for_itself(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        brush = Brush()
        first, second = await begin(cache, brush), await begin_to_wait(redis, other_cache, Brush(is_open=True))
        brush.failure = RenderFailed("failed", "a mistake")
        brush.gate.set()
        assert (await second).cache == "miss"
        with pytest.raises(RenderFailed):
            await first

    async def test_what_is_too_large_to_be_kept_is_drawn_in_each_gateway(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        large = Brush(bytes(LIMIT + 1))
        tasks = [await begin(cache, large), fetch(cache, large), await begin_to_wait(redis, other_cache, large)]
        large.gate.set()
        results = await asyncio.gather(*tasks)
        assert [len(result.content) for result in results] == [LIMIT + 1] * 3
        assert [result.cache for result in results] == ["miss", "shared", "miss"]
        for either in (cache, other_cache):
            await either.finish()
        assert await redis.keys("creps:cache:*") == []

    async def test_another_gateway_is_not_waited_for_beyond_the_deadline(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        brush = Brush()
        first = await begin(cache, brush)
        with pytest.raises(DeadlinePassed):
            await other_cache.fetch(KEY, brush, timeout=0.1)
        brush.gate.set()
        assert (await first).cache == "miss"
        assert brush.begun == 1

    async def test_those_who_join_have_all_of_their_own_time(self, cache: PictureCache) -> None:
        hurried, brush = Brush(), Brush(is_open=True)
        first = asyncio.create_task(cache.fetch(KEY, hurried, LONG))
        await eventually(lambda: hurried.begun)
        joined = [fetch(cache, brush) for _ in range(3)]
        await asyncio.sleep(0)
        hurried.failure = DeadlinePassed("within 2 s")
        hurried.gate.set()
        assert [result.content for result in await asyncio.gather(*joined)] == [CONTENT] * 3
        assert (hurried.begun, brush.begun) == (1, 1)
        with pytest.raises(DeadlinePassed, match="within 2 s"):
            await first

    async def test_those_who_join_have_no_more_than_their_own_time(self, cache: PictureCache) -> None:
        brush = Brush()
        first = await begin(cache, brush)
        with pytest.raises(DeadlinePassed):
            await cache.fetch(KEY, brush, timeout=0.1)
        brush.gate.set()
        assert (await first).content == CONTENT
        assert brush.begun == 1

    async def test_another_priority_does_not_wait_for_it(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        batch, brush = Brush(), Brush(is_open=True)
        first = asyncio.create_task(cache.fetch(KEY, batch, LONG, "batch"))
        await eventually(lambda: batch.begun)
        for either in (cache, other_cache):
            await redis.flushdb()
            assert (await either.fetch(KEY, brush, LONG)).cache == "miss"
            await either.finish()
        assert (batch.begun, brush.begun) == (1, 2)
        first.cancel()

    async def test_what_is_not_kept_is_not_waited_for_by_one_after_the_other(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        first = Brush(bytes(LIMIT + 1))
        large = Brush(bytes(LIMIT + 1))
        third = PictureCache(PictureStore(redis, LIMIT))
        tasks = [await begin(cache, first)]
        tasks += [await begin_to_wait(redis, either, large) for either in (other_cache, third)]
        first.gate.set()
        await eventually(lambda: large.begun == 2)
        large.gate.set()
        assert [result.cache for result in await asyncio.gather(*tasks)] == ["miss"] * 3
        await third.finish()

    async def test_the_lease_is_renewed_while_the_picture_is_drawn(
        self, redis: "Redis", cache: PictureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_cache, "LEASE_SECONDS", 3.0)
        brush = Brush()
        task = await begin(cache, brush)
        assert await redis.persist(LOCK)  # it must not end before it is renewed where this process is held up

        async def is_renewed() -> bool:
            return bool(await redis.pttl(LOCK) > 0)

        await eventually(is_renewed)
        brush.gate.set()
        await task

    async def test_the_gateway_that_draws_is_killed(self, redis: "Redis", redis_url: str, cache: PictureCache) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DRAWS_FOR_EVER, redis_url, KEY, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"drawing\n"
            brush = Brush(is_open=True)
            task = await begin_to_wait(redis, cache, brush)
        finally:
            process.kill()
            await process.wait()
        assert (await task).cache == "miss"

    async def test_nobody_gives_up_a_lock_that_is_not_theirs(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        brush, others_brush = Brush(), Brush()
        first = await begin(cache, brush)
        await redis.delete(LOCK)  # as if it had stood still for longer than its lease
        second = await begin(other_cache, others_brush)
        brush.gate.set()
        await first
        await cache.finish()
        assert await redis.exists(LOCK) == 1
        others_brush.gate.set()
        await second
        await other_cache.finish()
        assert await redis.exists(LOCK) == 0


@pytest.mark.anyio
class TestKeepingAfterTheAnswer:
    async def test_the_answer_comes_first(self, redis: "Redis", other_cache: PictureCache) -> None:
        store, brush = SlowStore(redis, LIMIT), Brush(is_open=True)
        cache = PictureCache(store)
        assert (await cache.fetch(KEY, brush, LONG)).cache == "miss"
        assert await store.get(KEY) is None
        for priority in ("interactive", "batch"):
            result = await cache.fetch(KEY, brush, LONG, priority)
            assert (result.content, result.cache) == (CONTENT, "hit"), "nobody draws again what is being kept"
        elsewhere = await begin_to_wait(redis, other_cache, brush)
        assert await redis.exists(LOCK) == 1
        store.gate.set()
        assert ((await elsewhere).content, (await elsewhere).cache) == (CONTENT, "shared")
        await cache.finish()
        assert await store.get(KEY) == CONTENT
        assert await redis.exists(LOCK) == 0
        assert brush.begun == 1

    async def test_a_slow_store_delays_no_answer_and_fills_no_memory(
        self, redis: "Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_cache, "MOST_UNKEPT", 2 * len(CONTENT))
        store, brush = SlowStore(redis, LIMIT), Brush(is_open=True)
        cache = PictureCache(store)
        for key in KEYS[:4]:
            assert (await cache.fetch(key, brush, LONG)).cache == "miss"
        store.gate.set()
        await cache.finish()
        assert [await store.get(key) for key in KEYS[:4]] == [CONTENT, CONTENT, None, None]
        assert await redis.keys("creps:cache:lock:*") == []
        assert (await cache.fetch(KEYS[2], brush, LONG)).cache == "miss"
        await cache.finish()
        assert await store.get(KEYS[2]) == CONTENT, "there is room again"

    async def test_a_store_that_hangs_holds_nobody_for_ever(
        self, redis: "Redis", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_cache, "FINISH_SECONDS", 0.2)
        cache, others = PictureCache(SlowStore(redis, LIMIT)), asyncio.all_tasks()
        await cache.fetch(KEY, Brush(is_open=True), LONG)
        assert asyncio.all_tasks() > others
        async with asyncio.timeout(LONG):
            await cache.finish()
        assert asyncio.all_tasks() == others


class SlowStore(PictureStore):
    """Keeps pictures once its gate is open."""

    def __init__(self, redis: "Redis", limit: int) -> None:
        super().__init__(redis, limit)
        self.gate = asyncio.Event()

    async def put(self, key: str, content: bytes) -> None:
        await self.gate.wait()
        await super().put(key, content)


DRAWS_FOR_EVER = """
import asyncio, sys
from service import picture_cache
from service.picture_store import PictureStore
from service.queue import connect

picture_cache.LEASE_SECONDS = 1.0

async def render(seconds):
    print("drawing", flush=True)
    await asyncio.Event().wait()

async def main():
    await picture_cache.PictureCache(PictureStore(connect(sys.argv[1]), 1000)).fetch(sys.argv[2], render, 60.0)

asyncio.run(main())
"""
