"""The store of pictures against a real server."""

import random
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from service import picture_store
from service.embedded_redis import embedded_redis
from service.picture_store import ALWAYS_KEPT, LARGEST_PART, OVERHEAD, PictureStore
from service.queue import connect
from tests.service.waiting import LONG

KEYS = [f"1-{letter * 64}" for letter in "abcdefgh"]
KEY = KEYS[0]
LIMIT = 1_000_000
CONTENT = bytes(range(256)) * 4


@pytest.fixture
async def store(redis: "Redis") -> PictureStore:
    return PictureStore(redis, LIMIT)


async def check_accounts(redis: "Redis", store: PictureStore) -> None:
    """The index and the sum are true, and every picture that the index knows is there."""
    sizes: Any = await redis.hgetall("creps:cache:sizes")
    total = int(sizes.pop(b"total", 0))
    assert await redis.zcard("creps:cache:used") == len(sizes)
    for key, size in sizes.items():
        assert await redis.strlen(f"creps:cache:picture:{key.decode()}") + OVERHEAD == int(size)
    assert total == sum(map(int, sizes.values())) == await store.held()


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
        """Gets a key, or puts so many bytes; a plain model of the store must agree after each step."""
        expected = OrderedDict[str, bytes]()
        async with connect(url) as redis:
            await redis.flushdb()
            store = PictureStore(redis, limit)
            for i, (key, size) in enumerate(actions):
                if size is None:
                    assert await store.get(key) == expected.get(key)
                    if key in expected:
                        expected.move_to_end(key)
                else:
                    content = random.Random(i).randbytes(size)
                    await store.put(key, content)
                    if len(content) + OVERHEAD <= limit:
                        expected.pop(key, None)
                        expected[key] = content
                    while cost(expected) > limit:
                        expected.popitem(last=False)
                assert await store.held() == cost(expected) <= limit
                names = {f"creps:cache:picture:{name}".encode() for name in expected}
                assert set(await redis.keys("creps:cache:picture:*")) == names
            for key in KEYS:
                assert await store.get(key) == expected.get(key)


def cost(pictures: "OrderedDict[str, bytes]") -> int:
    return sum(len(content) + OVERHEAD for content in pictures.values())


@pytest.mark.anyio
class TestKeeping:
    async def test_what_is_too_large_for_its_part_is_not_kept(self, redis: "Redis") -> None:
        store = PictureStore(redis, 2 * LARGEST_PART * ALWAYS_KEPT)
        largest = 2 * ALWAYS_KEPT - OVERHEAD
        for i, (size, kept) in enumerate([(largest, True), (largest + 1, False)]):
            await store.put(KEYS[i], bytes(size))
            assert (await store.get(KEYS[i]) is not None) == kept

    async def test_a_tile_is_kept_in_a_small_cache_too(self, redis: "Redis") -> None:
        store = PictureStore(redis, 2 * ALWAYS_KEPT)
        await store.put(KEY, bytes(512 * 512 * 3))
        assert await store.get(KEY) == bytes(512 * 512 * 3)

    async def test_a_smaller_limit_takes_hold_with_the_next_picture(self, redis: "Redis", store: PictureStore) -> None:
        for key in KEYS:
            await store.put(key, CONTENT)
        smaller = PictureStore(redis, 2 * (len(CONTENT) + OVERHEAD))
        await smaller.put(KEYS[0], CONTENT)
        assert [await store.get(key) is not None for key in KEYS] == [True, *[False] * 6, True]
        assert await store.held() == 2 * (len(CONTENT) + OVERHEAD)

    async def test_pictures_expire_unless_asked_for(
        self, redis: "Redis", store: PictureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_store, "KEEP_SECONDS", round(LONG))
        for key in KEYS[:3]:
            await store.put(key, CONTENT)
        monkeypatch.undo()
        await store.get(KEYS[1])
        for name in await redis.keys("creps:cache:picture:*"):
            if (left := await redis.ttl(name)) <= LONG:
                assert left > 0  # −1 would be for ever
                await redis.delete(name)  # as if so much time had passed
        assert len(await redis.keys("creps:cache:picture:*")) == 1
        await store.put(KEYS[3], CONTENT)
        assert await store.held() == 2 * (len(CONTENT) + OVERHEAD), "the oldest are counted no more"
        assert await store.get(KEYS[1]) == CONTENT
        assert await store.get(KEYS[2]) is None
        await check_accounts(redis, store)

    @pytest.mark.parametrize(
        "lost",
        ["creps:cache:used", "creps:cache:sizes", f"creps:cache:picture:{KEYS[0]}", f"creps:cache:picture:{KEYS[2]}"],
    )
    async def test_what_redis_loses_is_put_right(self, redis: "Redis", lost: str) -> None:
        store = PictureStore(redis, limit := 4 * (len(CONTENT) + OVERHEAD))
        for key in KEYS[:4]:
            await store.put(key, CONTENT)
        await redis.delete(lost)
        for key in KEYS:
            assert await store.get(key) in (CONTENT, None)
            await store.put(key, CONTENT)
            assert await store.get(key) == CONTENT
            assert await store.held() <= limit
        await check_accounts(redis, store)
        assert await store.held() == limit
        assert [await store.get(key) for key in KEYS[4:]] == [CONTENT] * 4
        for name in await redis.keys("creps:cache:picture:*"):
            assert await redis.pttl(name) > 0, "nothing is left for ever, though no index knows it"

    async def test_a_picture_that_is_gone_counts_no_more_once_it_was_missed(
        self, redis: "Redis", store: PictureStore
    ) -> None:
        for key in KEYS[:3]:
            await store.put(key, CONTENT)
        await redis.delete(f"creps:cache:picture:{KEYS[1]}")
        assert await store.get(KEYS[1]) is None
        assert await store.held() == 2 * (len(CONTENT) + OVERHEAD)
        await check_accounts(redis, store)

    async def test_an_empty_cache_counts_from_nothing(self, redis: "Redis", store: PictureStore) -> None:
        await redis.hset("creps:cache:sizes", "total", str(2 * LIMIT))
        await store.put(KEY, CONTENT)
        assert await store.get(KEY) == CONTENT
        await check_accounts(redis, store)

    async def test_the_server_forgets_everything(self, redis: "Redis", store: PictureStore) -> None:
        await store.put(KEY, CONTENT)
        await redis.flushall()
        await redis.script_flush()
        assert await store.get(KEY) is None
        assert await store.held() == 0
        await store.put(KEY, CONTENT)
        assert await store.get(KEY) == CONTENT
        await check_accounts(redis, store)

    async def test_the_server_evicts_by_a_policy_of_its_own(self, redis: "Redis") -> None:
        store = PictureStore(redis, 100 * LIMIT)
        memory: Any = await redis.info("memory")
        await redis.config_set("maxmemory-policy", "allkeys-random")
        await redis.config_set("maxmemory", memory["used_memory"] + 1_000_000)
        keys = [f"1-{i:064}" for i in range(100)]
        for key in keys:
            await store.put(key, bytes(20_000))
        await redis.config_set("maxmemory", 0)
        kept = [await store.get(key) is not None for key in keys]
        assert 0 < sum(kept) < 100
        await store.put(KEY, CONTENT)
        await check_accounts(redis, store)

    async def test_memory_is_short(self, redis: "Redis", store: PictureStore) -> None:
        await store.put(KEYS[0], CONTENT)
        await redis.config_set("maxmemory", 1)
        await store.put(KEYS[1], CONTENT)
        assert await store.get(KEYS[0]) == CONTENT
        assert await store.get(KEYS[1]) is None
        await redis.config_set("maxmemory", 0)
        await check_accounts(redis, store)

    async def test_every_outage_is_logged(
        self, store: PictureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(**_: Any) -> None:
            raise RedisConnectionError("away")

        for outage in (1, 2):
            with monkeypatch.context() as broken:
                broken.setattr(store, "_run_look_up", fail)
                for _ in range(3):
                    assert await store.get(KEY) is None
            assert await store.get(KEY) is None
            assert len(caplog.records) == outage
