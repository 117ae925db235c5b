"""Cached images over HTTP: real gateways, a real queue and cache, and a worker that notes what it renders."""

import asyncio
import itertools
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from service.gateway import image_cache, worker_registry
from service.gateway.server import address_of, listen, running_gateway
from service.runtime.embedded_redis import embedded_cache
from service.runtime.redis import connect
from service.runtime.settings import Settings
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.stand_in import INVALID, WAITS, journal, make_worker, open_gate
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(redis_url: str, folder: Path, cache_url: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that serves the model ``plain``, and a client of it."""
    settings = Settings(models=folder, outputs=str(folder / "outputs"), cache_url=cache_url)
    with listen("127.0.0.1", 0) as listener:
        async with (
            running_gateway(settings, redis_url, listener),
            httpx.AsyncClient(base_url=address_of(listener), timeout=LONG, trust_env=False) as http,
        ):
            yield http


@pytest.fixture
def cache_url(redis_url: str) -> str:
    """Another database of the queue's server, to start one process less."""
    return f"{redis_url}?db=1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_hollow_checkpoint(tmp_path, "plain")
    return tmp_path


@pytest.fixture
async def http(redis_url: str, folder: Path, cache_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running(redis_url, folder, cache_url) as http:
        yield http


@pytest.fixture
async def worker(redis: "Redis", folder: Path) -> AsyncIterator[AsyncExitStack]:
    """A worker, until the stack is closed."""
    async with AsyncExitStack() as stack:
        worker = make_worker(redis, folder)
        running = asyncio.create_task(worker.run())
        stack.push_async_callback(asyncio.wait_for, running, LONG)
        stack.callback(worker.stop)
        stack.callback(open_gate, folder)
        yield stack


def drawn(folder: Path) -> list[int]:
    return [seed for _, _, seeds in journal(folder) for seed in seeds]


def ask(http: httpx.AsyncClient, seed: int) -> "asyncio.Task[httpx.Response]":
    return asyncio.create_task(http.get(f"/v1/images/plain/{seed}.png"))


async def metric(http: httpx.AsyncClient, name: str) -> float:
    text = (await http.get("/metrics")).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def requests_counted(http: httpx.AsyncClient) -> dict[str, float]:
    return {
        result: await metric(http, f'creps_cache_requests_total{{cache="pictures",result="{result}"}}')
        for result in ("hit", "miss", "shared")
    }


async def wait_for_one_more(http: httpx.AsyncClient, before: dict[str, float], result: str) -> None:
    async def counted() -> bool:
        return (await requests_counted(http))[result] == before[result] + 1

    await eventually(counted)


async def gone(http: httpx.AsyncClient) -> float:
    """Clients that left before their picture was ready."""
    route = 'route="/v1/images/{model}/{seed}.{format}"'
    return await metric(http, f'creps_http_requests_total{{method="GET",{route},status="499"}}')


async def leave(http: httpx.AsyncClient, client: "asyncio.Task[httpx.Response]") -> None:
    """Closes the connection, and waits until the gateway has noticed."""
    before = await gone(http)
    client.cancel()

    async def noticed() -> bool:
        return await gone(http) == before + 1

    await eventually(noticed)


@pytest.mark.usefixtures("worker")
async def test_an_image_that_was_drawn_is_not_drawn_again(http: httpx.AsyncClient, folder: Path) -> None:
    first = await http.get("/v1/images/plain/3.png?width=40")
    again = await http.get("/v1/images/plain/3.png?width=40&height=40")
    by_digest = await http.get(f"/v1/images/{first.headers['X-Creps-Digest']}/3.png?width=40")
    posted = await http.post("/v1/images", json={"model": "plain", "seed": 3, "width": 40})
    assert drawn(folder) == [3]
    assert first.content == b"40x40 3 png"
    assert re.fullmatch(r"queue;dur=\S+, render;dur=\S+, encode;dur=\S+", first.headers["Server-Timing"])
    for response in (again, by_digest, posted):
        assert response.status_code == 200
        assert response.content == first.content
        for name in ("ETag", "Content-Type", "Content-Disposition", "X-Creps-Seed", "X-Creps-Digest"):
            assert response.headers[name] == first.headers[name]
        timing = r'queue;dur=\d+\.\d\d, render;dur=0\.00, encode;dur=0\.00, cache;desc="hit"'
        assert re.fullmatch(timing, response.headers["Server-Timing"])


@pytest.mark.usefixtures("worker")
async def test_every_difference_is_another_image(http: httpx.AsyncClient, folder: Path) -> None:
    for path in ("3.png", "4.png", "3.webp", "3.webp?quality=80", "3.png?width=33", "3.png?psi=0.5"):
        assert 'cache;desc="hit"' not in (await http.get(f"/v1/images/plain/{path}")).headers["Server-Timing"]
    save_hollow_checkpoint(folder, "other")
    await http.get("/v1/images/other/3.png")
    assert drawn(folder) == [3, 4, 3, 3, 3, 3, 3]


async def test_a_kept_image_needs_no_worker(
    http: httpx.AsyncClient, worker: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await ask(http, 3)
    await worker.aclose()
    monkeypatch.setattr(worker_registry, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(worker_registry, "NO_WORKER_GRACE", 0.0)
    assert (await ask(http, 4)).status_code == 503
    again = await ask(http, 3)
    assert (again.status_code, again.content) == (200, first.content)


@pytest.mark.usefixtures("worker")
async def test_gateways_share_images(redis_url: str, cache_url: str, http: httpx.AsyncClient, folder: Path) -> None:
    async with running(redis_url, folder, cache_url) as other:
        first = await ask(other, 3)
    again = await ask(http, 3)  # the other gateway stored it before it stopped
    assert again.headers["Server-Timing"].endswith('cache;desc="hit"')
    assert again.content == first.content
    assert drawn(folder) == [3]


@pytest.mark.usefixtures("worker")
async def test_the_client_who_asked_first_leaves(http: httpx.AsyncClient, folder: Path) -> None:
    before = await requests_counted(http)
    one = ask(http, WAITS)
    await eventually(lambda: drawn(folder))
    two = ask(http, WAITS)
    await wait_for_one_more(http, before, "shared")
    await leave(http, one)
    open_gate(folder)
    response = await two
    assert response.status_code == 200
    assert response.headers["Server-Timing"].endswith('cache;desc="shared"')
    assert drawn(folder) == [WAITS]


@pytest.mark.usefixtures("worker")
async def test_all_clients_leave(redis: "Redis", http: httpx.AsyncClient, folder: Path) -> None:
    before = await requests_counted(http)
    one = ask(http, WAITS)
    await eventually(lambda: drawn(folder))
    two = ask(http, WAITS)
    await wait_for_one_more(http, before, "shared")
    await leave(http, one)
    assert not await redis.keys("creps:cancelled:*")
    await leave(http, two)
    await eventually(lambda: redis.keys("creps:cancelled:*"))
    open_gate(folder)
    assert (await ask(http, WAITS)).status_code == 200
    assert drawn(folder) == [WAITS, WAITS]


@pytest.mark.usefixtures("worker")
async def test_an_error_reaches_all_who_wait_and_the_next_request_tries_again(
    http: httpx.AsyncClient, folder: Path
) -> None:
    before = await requests_counted(http)
    ahead = ask(http, WAITS)
    await eventually(lambda: drawn(folder))
    tasks = [ask(http, INVALID), ask(http, INVALID)]
    await wait_for_one_more(http, before, "shared")
    open_gate(folder)
    for response in await asyncio.gather(*tasks):
        assert (response.status_code, response.json()["field"]) == (422, "class_index")
    assert (await ahead).status_code == 200
    assert drawn(folder) == [WAITS, INVALID]
    assert (await ask(http, INVALID)).status_code == 422
    assert drawn(folder) == [WAITS, INVALID, INVALID]


@pytest.mark.usefixtures("worker")
async def test_metrics(http: httpx.AsyncClient) -> None:
    before = await requests_counted(http)
    images = [await ask(http, seed) for seed in (1, 2, 1, 1)]
    await http.get("/v1/images/plain/1.png", headers={"If-None-Match": images[0].headers["ETag"]})
    await http.get("/v1/images/plain/1.png?width=0")
    after = await requests_counted(http)
    assert {result: after[result] - before[result] for result in after} == {"hit": 2, "miss": 2, "shared": 0}
    assert await metric(http, 'creps_cache_bytes{cache="pictures"}') > 0


@pytest.mark.usefixtures("worker")
async def test_without_an_address_nothing_is_cached(redis_url: str, folder: Path) -> None:
    async with running(redis_url, folder, cache_url=None) as http:
        for response in [await ask(http, 3), await ask(http, 3)]:
            assert (response.status_code, response.content) == (200, b"32x32 3 png")
            assert "cache" not in response.headers["Server-Timing"]
        assert await metric(http, 'creps_cache_bytes{cache="pictures"}') == 0
    assert drawn(folder) == [3, 3]


@pytest.mark.usefixtures("worker")
async def test_no_failure_of_the_cache_fails_a_request(
    redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "RETRY_SECONDS", 0.2)
    seeds = itertools.count()
    async with embedded_cache(64 << 20) as url, running(redis_url, folder, url) as http, connect(url) as server:

        async def is_cached(seed: int) -> bool:
            response = await ask(http, seed)
            assert response.status_code == 200
            return response.headers["Server-Timing"].endswith('cache;desc="hit"')

        async def assert_misses() -> None:
            began = time.monotonic()
            for seed in (next(seeds), 1000):
                assert not await is_cached(seed)
            assert time.monotonic() - began < LONG / 2
            assert (await http.get("/readyz")).status_code == (await http.get("/metrics")).status_code == 200

        assert not await is_cached(1000)
        await eventually(server.dbsize)
        assert await is_cached(1000)
        process = (await server.info("server"))["process_id"]
        monkeypatch.setattr(image_cache, "LOOKUP_TIMEOUT", 0.5)
        os.kill(process, signal.SIGSTOP)  # slow
        await assert_misses()
        os.kill(process, signal.SIGCONT)
        await eventually(partial(is_cached, 1000))
        await server.config_set("maxmemory", 1)  # full
        assert not await is_cached(next(seeds))
        os.kill(process, signal.SIGKILL)  # gone, and restarted empty
        await assert_misses()
        await eventually(partial(is_cached, 1000))
