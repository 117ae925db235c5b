"""The cache of pictures against a real server; two caches stand for two gateways."""

import asyncio
import itertools
import random
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service import picture_cache
from service.embedded_redis import embedded_redis
from service.picture_cache import ALWAYS_KEPT, LARGEST_PART, OVERHEAD, PictureCache
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
async def cache(redis: "Redis") -> PictureCache:
    return PictureCache(redis, LIMIT)


@pytest.fixture
async def other_cache(redis_url: str) -> AsyncIterator[PictureCache]:
    """Another gateway's."""
    async with connect(redis_url) as redis:
        yield PictureCache(redis, LIMIT)


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


async def check_accounts(redis: "Redis", cache: PictureCache) -> None:
    """The index and the sum are true, and every picture that the index knows is there."""
    sizes: Any = await redis.hgetall("creps:cache:sizes")
    total = int(sizes.pop(b"total", 0))
    assert await redis.zcard("creps:cache:used") == len(sizes)
    for key, size in sizes.items():
        assert await redis.strlen(f"creps:cache:picture:{key.decode()}") + OVERHEAD == int(size)
    assert total == sum(map(int, sizes.values())) == await cache.held()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[BlockingPortal, str]]:
    """A server for many examples of one property, and the loop to talk to it."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(embedded_redis()) as url:
        yield portal, url


class TestBound:
    @settings(max_examples=150, deadline=None)
    @given(
        limit=st.integers(1, 6_000),
        actions=st.lists(st.tuples(st.sampled_from(KEYS), st.none() | st.integers(0, 3_000)), max_size=40),
    )
    def test_holds_whatever_is_put_and_the_least_recently_used_goes_first(
        self, server: tuple[BlockingPortal, str], limit: int, actions: list[tuple[str, int | None]]
    ) -> None:
        portal, url = server
        portal.call(self.act, url, limit, actions)

    async def act(self, url: str, limit: int, actions: list[tuple[str, int | None]]) -> None:
        """Gets a key, or puts so many bytes; a plain model of the cache must agree after each step."""
        expected = OrderedDict[str, bytes]()
        async with connect(url) as redis:
            await redis.flushdb()
            cache = PictureCache(redis, limit)
            for i, (key, size) in enumerate(actions):
                if size is None:
                    assert await cache.get(key) == expected.get(key)
                    if key in expected:
                        expected.move_to_end(key)
                else:
                    content = random.Random(i).randbytes(size)
                    await cache.put(key, content)
                    if len(content) + OVERHEAD <= limit:
                        expected.pop(key, None)
                        expected[key] = content
                    while cost(expected) > limit:
                        expected.popitem(last=False)
                assert await cache.held() == cost(expected) <= limit
                names = {f"creps:cache:picture:{name}".encode() for name in expected}
                assert set(await redis.keys("creps:cache:picture:*")) == names
            for key in KEYS:
                assert await cache.get(key) == expected.get(key)


def cost(pictures: "OrderedDict[str, bytes]") -> int:
    return sum(len(content) + OVERHEAD for content in pictures.values())


@pytest.mark.anyio
class TestKeeping:
    async def test_what_is_too_large_for_its_part_is_not_kept(self, redis: "Redis") -> None:
        cache = PictureCache(redis, 2 * LARGEST_PART * ALWAYS_KEPT)
        largest = 2 * ALWAYS_KEPT - OVERHEAD
        for i, (size, kept) in enumerate([(largest, True), (largest + 1, False)]):
            await cache.put(KEYS[i], bytes(size))
            assert (await cache.get(KEYS[i]) is not None) == kept

    async def test_a_tile_is_kept_in_a_small_cache_too(self, redis: "Redis") -> None:
        cache = PictureCache(redis, 2 * ALWAYS_KEPT)
        await cache.put(KEY, bytes(512 * 512 * 3))
        assert await cache.get(KEY) == bytes(512 * 512 * 3)

    async def test_a_smaller_limit_takes_hold_with_the_next_picture(self, redis: "Redis", cache: PictureCache) -> None:
        for key in KEYS:
            await cache.put(key, CONTENT)
        smaller = PictureCache(redis, 2 * (len(CONTENT) + OVERHEAD))
        await smaller.put(KEYS[0], CONTENT)
        assert [await cache.get(key) is not None for key in KEYS] == [True, *[False] * 6, True]
        assert await cache.held() == 2 * (len(CONTENT) + OVERHEAD)

    async def test_pictures_expire_unless_asked_for(
        self, redis: "Redis", cache: PictureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_cache, "KEEP_SECONDS", 1)
        for key in KEYS[:3]:
            await cache.put(key, CONTENT)
        monkeypatch.undo()
        await cache.get(KEYS[1])

        async def expired() -> bool:
            return len(await redis.keys("creps:cache:picture:*")) == 1

        await eventually(expired)
        await cache.put(KEYS[3], CONTENT)
        assert await cache.held() == 2 * (len(CONTENT) + OVERHEAD), "the oldest are counted no more"
        assert await cache.get(KEYS[1]) == CONTENT
        assert await cache.get(KEYS[2]) is None
        await check_accounts(redis, cache)

    @pytest.mark.parametrize(
        "lost",
        ["creps:cache:used", "creps:cache:sizes", f"creps:cache:picture:{KEYS[0]}", f"creps:cache:picture:{KEYS[2]}"],
    )
    async def test_what_redis_loses_is_put_right(self, redis: "Redis", lost: str) -> None:
        cache = PictureCache(redis, limit := 4 * (len(CONTENT) + OVERHEAD))
        for key in KEYS[:4]:
            await cache.put(key, CONTENT)
        await redis.delete(lost)
        for key in KEYS:
            assert await cache.get(key) in (CONTENT, None)
            await cache.put(key, CONTENT)
            assert await cache.get(key) == CONTENT
            assert await cache.held() <= limit
        await check_accounts(redis, cache)
        assert await cache.held() == limit
        assert [await cache.get(key) for key in KEYS[4:]] == [CONTENT] * 4
        for name in await redis.keys("creps:cache:picture:*"):
            assert await redis.pttl(name) > 0, "nothing is left for ever, though no index knows it"

    async def test_a_picture_that_is_gone_counts_no_more_once_it_was_missed(
        self, redis: "Redis", cache: PictureCache
    ) -> None:
        for key in KEYS[:3]:
            await cache.put(key, CONTENT)
        await redis.delete(f"creps:cache:picture:{KEYS[1]}")
        assert await cache.get(KEYS[1]) is None
        assert await cache.held() == 2 * (len(CONTENT) + OVERHEAD)
        await check_accounts(redis, cache)

    async def test_an_empty_cache_counts_from_nothing(self, redis: "Redis", cache: PictureCache) -> None:
        await redis.hset("creps:cache:sizes", "total", str(2 * LIMIT))
        await cache.put(KEY, CONTENT)
        assert await cache.get(KEY) == CONTENT
        await check_accounts(redis, cache)

    async def test_the_server_forgets_everything(self, redis: "Redis", cache: PictureCache) -> None:
        await cache.put(KEY, CONTENT)
        await redis.flushall()
        await redis.script_flush()
        assert await cache.get(KEY) is None
        assert await cache.held() == 0
        await cache.put(KEY, CONTENT)
        assert await cache.get(KEY) == CONTENT
        await check_accounts(redis, cache)

    async def test_the_server_evicts_by_a_policy_of_its_own(self, redis: "Redis") -> None:
        cache = PictureCache(redis, 100 * LIMIT)
        memory: Any = await redis.info("memory")
        await redis.config_set("maxmemory-policy", "allkeys-random")
        await redis.config_set("maxmemory", memory["used_memory"] + 1_000_000)
        keys = [f"1-{i:064}" for i in range(100)]
        for key in keys:
            await cache.put(key, bytes(20_000))
        await redis.config_set("maxmemory", 0)
        kept = [await cache.get(key) is not None for key in keys]
        assert 0 < sum(kept) < 100
        await cache.put(KEY, CONTENT)
        await check_accounts(redis, cache)

    async def test_memory_is_short(self, redis: "Redis", cache: PictureCache) -> None:
        await cache.put(KEYS[0], CONTENT)
        await redis.config_set("maxmemory", 1)
        await cache.put(KEYS[1], CONTENT)
        assert await cache.get(KEYS[0]) == CONTENT
        assert await cache.get(KEYS[1]) is None
        await redis.config_set("maxmemory", 0)
        await check_accounts(redis, cache)

    async def test_no_bytes_no_cache(self, redis: "Redis") -> None:
        cache, brush = PictureCache(redis, 0), Brush(is_open=True)
        before = requests_counted()
        for _ in range(2):
            assert await cache.fetch(KEY, brush, LONG) == RenderResult(CONTENT, 0.125, 0.25, 0.5, "miss")
        await cache.put(KEY, CONTENT)
        assert await cache.get(KEY) is None
        assert brush.begun == 2
        assert await redis.dbsize() == 0
        assert requests_counted() == before

    async def test_without_a_server_all_is_missed(self, caplog: pytest.LogCaptureFixture) -> None:
        async with connect("unix:///nowhere/socket") as redis:
            cache, brush = PictureCache(redis, LIMIT), Brush(is_open=True)
            for count in (1, 2):
                assert (await cache.fetch(KEY, brush, LONG)).content == CONTENT
                assert brush.begun == count
            assert await cache.get(KEY) is None
        assert len(caplog.records) == 1

    async def test_every_outage_is_logged(
        self, cache: PictureCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(**_: Any) -> None:
            raise RedisConnectionError("away")

        for outage in (1, 2):
            with monkeypatch.context() as broken:
                broken.setattr(cache, "_run_look_up", fail)
                for _ in range(3):
                    assert await cache.get(KEY) is None
            assert await cache.get(KEY) is None
            assert len(caplog.records) == outage


@pytest.mark.anyio
class TestDrawingOnce:
    async def test_a_picture_is_drawn_once_and_then_found(self, cache: PictureCache, other_cache: PictureCache) -> None:
        before, brush = requests_counted(), Brush(is_open=True)
        assert await cache.fetch(KEY, brush, LONG) == RenderResult(CONTENT, 0.125, 0.25, 0.5, "miss")
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
        assert await cache.get(KEY) == CONTENT

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
        assert (batch.begun, brush.begun) == (1, 2)
        first.cancel()

    async def test_what_is_not_kept_is_not_waited_for_by_one_after_the_other(
        self, redis: "Redis", cache: PictureCache, other_cache: PictureCache
    ) -> None:
        first = Brush(bytes(LIMIT + 1))
        large = Brush(bytes(LIMIT + 1))
        third = PictureCache(redis, LIMIT)
        tasks = [await begin(cache, first)]
        tasks += [await begin_to_wait(redis, either, large) for either in (other_cache, third)]
        first.gate.set()
        await eventually(lambda: large.begun == 2)
        large.gate.set()
        assert [result.cache for result in await asyncio.gather(*tasks)] == ["miss"] * 3

    async def test_the_lease_is_renewed_while_the_picture_is_drawn(
        self, redis: "Redis", cache: PictureCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_cache, "LEASE_SECONDS", 1.0)
        brush = Brush()
        task = await begin(cache, brush)
        left = [0]

        async def rises() -> bool:
            left.append(await redis.pttl(LOCK))
            return any(before < after for before, after in itertools.pairwise(left[1:]))

        await eventually(rises)
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
        assert await redis.exists(LOCK) == 1
        others_brush.gate.set()
        await second
        assert await redis.exists(LOCK) == 0


DRAWS_FOR_EVER = """
import asyncio, sys
from service import picture_cache
from service.queue import connect

picture_cache.LEASE_SECONDS = 1.0

async def render(seconds):
    print("drawing", flush=True)
    await asyncio.Event().wait()

async def main():
    await picture_cache.PictureCache(connect(sys.argv[1]), 1000).fetch(sys.argv[2], render, 60.0)

asyncio.run(main())
"""
