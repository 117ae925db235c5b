"""Budgets of keys over HTTP: what counts, what does not, and that all gateways count together."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from service.gateway.api_keys import MAX_PIXELS
from service.runtime import redis as redis_module
from service.runtime.embedded_redis import embedded_redis
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.keyed import as_key, drawing_worker, keyed_gateway, write_keys
from tests.service.stand_in import WAITS, journal, open_gate
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

SIDE = 40
PIXELS = SIDE**2
"""Pixels of one image, which the network of 32² renders without averaging."""

NAME = "plain"
ENTRIES: dict[str, dict[str, Any]] = {
    "caller": {"requests_per_minute": 3},
    "painter": {"pixels_per_minute": 3 * PIXELS},
    "other": {"all_jobs": True},
    "small": {"pixels_per_minute": PIXELS - 1},
    "huge": {"pixels_per_minute": MAX_PIXELS},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_hollow_checkpoint(tmp_path, NAME)
    write_keys(tmp_path / "keys.toml", ENTRIES)
    return tmp_path


@pytest.fixture
async def http(redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr("service.gateway.routes.jobs.SETTLING_SECONDS", LONG)
    async with keyed_gateway(redis_url, folder, cache_url=f"{redis_url}?db=1") as http:
        yield http


@pytest.fixture
async def worker(redis: "Redis", folder: Path) -> AsyncIterator[None]:
    async with drawing_worker(redis, folder):
        yield


async def draw(http: httpx.AsyncClient, key: str, seed: int, side: int = SIDE) -> httpx.Response:
    return await http.get(f"/v1/images/{NAME}/{seed}.png?width={side}", headers=as_key(key))


async def order(http: httpx.AsyncClient, key: str, side: int, **values: Any) -> httpx.Response:
    body = {"model": NAME, "seed": 1, "width": side, "output": "png", "tile": 64, **values}
    return await http.post("/v1/jobs", json=body, headers=as_key(key))


def seeds_drawn(folder: Path) -> list[int]:
    return [seed for _, _, seeds in journal(folder) for seed in seeds]


def assert_exceeded(response: httpx.Response, limit: str) -> None:
    assert response.status_code == 429
    assert response.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert limit in response.json()["detail"]


async def test_requests_of_all_gateways_count_together(redis_url: str, folder: Path, http: httpx.AsyncClient) -> None:
    async with keyed_gateway(redis_url, folder) as other:
        asked = [await gateway.get("/v1/models", headers=as_key("caller")) for gateway in (http, other, http, other)]
        assert [response.status_code for response in asked] == [200, 200, 200, 429]
        assert_exceeded(asked[-1], "the key caller has 3 requests a minute")
        assert (await other.get("/v1/models", headers=as_key("other"))).status_code == 200
        assert (await http.get("/livez", headers=as_key("caller"))).status_code == 200


async def test_the_description_tells_of_budgets(http: httpx.AsyncClient) -> None:
    description = (await http.get("/openapi.json")).json()
    assert "429" in description["paths"]["/v1/models"]["get"]["responses"]
    assert "429" not in description["paths"]["/livez"]["get"]["responses"]


async def test_pages_without_a_key_cost_nobody_anything(redis: "Redis", http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models")).status_code == 401
    assert (await http.get("/v1/models", headers=as_key("stranger"))).status_code == 401
    assert (await http.get("/")).status_code == 200
    assert [key async for key in redis.scan_iter("creps:budget*")] == []


@pytest.mark.usefixtures("worker")
async def test_pixels_that_are_drawn_count_and_cached_ones_do_not(http: httpx.AsyncClient, folder: Path) -> None:
    for seed in (1, 2, 3, 1, 2, 3):
        assert (await draw(http, "painter", seed)).status_code == 200
    assert_exceeded(await draw(http, "painter", 4), f"the key painter has {3 * PIXELS} pixels a minute")
    assert (await draw(http, "painter", 2)).status_code == 200, "it is cached"
    assert (await draw(http, "other", 4)).status_code == 200
    assert (await draw(http, "painter", 4)).status_code == 200, "now it is cached, too"
    assert seeds_drawn(folder) == [1, 2, 3, 4]


@pytest.mark.usefixtures("worker")
async def test_pixels_count_as_they_are_rendered(http: httpx.AsyncClient) -> None:
    assert (await draw(http, "painter", 1, side=16)).status_code == 200  # averaged from 32², which is 1024
    assert (await draw(http, "painter", 2)).status_code == 200
    assert (await draw(http, "painter", 3)).status_code == 200
    assert_exceeded(await draw(http, "painter", 4, side=24), "of which 576 are left")  # 24² would fit, 48² does not


@pytest.mark.usefixtures("worker")
async def test_what_is_above_a_minutes_budget_is_not_told_to_come_back(http: httpx.AsyncClient) -> None:
    response = await draw(http, "small", 1)
    assert response.status_code == 413
    assert "Retry-After" not in response.headers
    assert response.json()["detail"] == (
        f"this takes {PIXELS} pixels, and the key small has {PIXELS - 1} pixels a minute"
    )
    assert (await order(http, "small", side=64)).status_code == 413


@pytest.mark.usefixtures("worker")
async def test_who_waits_for_the_same_image_does_not_pay_and_is_not_refused(
    http: httpx.AsyncClient, folder: Path
) -> None:
    """Requests for one image share a flight, whose leader may have no budget left for it."""
    first = asyncio.create_task(draw(http, "other", WAITS))
    await eventually(lambda: seeds_drawn(folder) == [WAITS])
    assert not first.done()
    in_flight = asyncio.gather(*(draw(http, key, WAITS) for key in ("small", "painter", "other")))
    await asyncio.sleep(0.2)
    open_gate(folder)
    assert [response.status_code for response in (await first, *await in_flight)] == [200] * 4
    together = await asyncio.gather(*(draw(http, key, 5) for key in ("small", "other", "small", "other")))
    assert {response.status_code for response in together[1::2]} == {200}


async def test_images_that_a_full_queue_refuses_do_not_count(redis: "Redis", redis_url: str, folder: Path) -> None:
    async with keyed_gateway(redis_url, folder, queue_limit=1) as http, drawing_worker(redis, folder):
        waiting = asyncio.create_task(draw(http, "other", WAITS))
        await eventually(lambda: seeds_drawn(folder) == [WAITS])
        for seed in range(5):
            refused = await draw(http, "painter", seed)
            assert refused.status_code == 429
            assert "the queue is full" in refused.json()["detail"]
        open_gate(folder)
        assert (await waiting).status_code == 200
        assert [(await draw(http, "painter", seed)).status_code for seed in range(3)] == [200] * 3
        assert_exceeded(await draw(http, "painter", 3), "of which 0 are left")


async def test_jobs_count_at_admission_and_once(redis: "Redis", http: httpx.AsyncClient) -> None:
    side = 64  # 4096 of 4800 pixels
    key = {"Idempotency-Key": "the-same"} | as_key("painter")
    body = {"model": NAME, "seed": 1, "width": side, "output": "png", "tile": 64}
    for _ in range(3):
        assert (await http.post("/v1/jobs", json=body, headers=key)).status_code == 202
    assert_exceeded(await order(http, "painter", side=side), "of which 704 are left")
    jobs = (await http.get("/v1/jobs", headers=as_key("other"))).json()
    assert jobs["total"] == 1


async def test_orders_with_one_key_at_once_are_one_job_and_count_once(
    redis_url: str, folder: Path, http: httpx.AsyncClient
) -> None:
    """Though they come to two gateways, and each is charged before it is known which is the first."""
    key = {"Idempotency-Key": "at once"} | as_key("painter")
    body = {"model": NAME, "seed": 1, "width": 32, "output": "png", "tile": 64}
    async with keyed_gateway(redis_url, folder) as other:
        posts = [gateway.post("/v1/jobs", json=body, headers=key) for _ in range(2) for gateway in (http, other)]
        in_flight = await asyncio.gather(*posts)
    assert {answer.status_code for answer in in_flight} == {202}
    (job,) = {answer.json()["id"] for answer in in_flight}
    assert [path.name for path in (folder / "outputs" / "jobs").iterdir()] == [job]
    assert_exceeded(await order(http, "painter", side=64), f"of which {3 * PIXELS - 1024} are left")


async def test_jobs_beyond_the_limit_do_not_count(redis_url: str, folder: Path) -> None:
    async with keyed_gateway(redis_url, folder, job_limit=1) as http:
        in_flight = await asyncio.gather(*(order(http, "painter", side=32) for _ in range(4)))
        assert sorted(answer.status_code for answer in in_flight) == [202, 429, 429, 429]
        (job,) = (answer.json()["links"]["self"] for answer in in_flight if answer.status_code == 202)
        await http.delete(job, headers=as_key("other"))  # so that the budget alone is in the way
        assert_exceeded(await order(http, "painter", side=64), f"of which {3 * PIXELS - 1024} are left")


async def test_all_levels_of_a_job_count(http: httpx.AsyncClient) -> None:
    # Deep Zoom of 32² has six levels, each of which is drawn from at least 32² pixels: 6 · 1024 > 4800.
    assert (await order(http, "painter", side=32, output="dzi")).status_code == 413
    assert (await order(http, "painter", side=32)).status_code == 202


async def test_large_budgets_are_exact(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        assert (await order(http, "huge", side=60_000)).status_code == 202
    assert (await http.get("/v1/jobs", headers=as_key("other"))).json()["total"] == 2


async def test_no_request_waits_for_a_redis_that_is_known_to_hang(
    redis: "Redis", redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "REDIS_TIMEOUT", 1.0)
    process = int((await redis.info("server"))["process_id"])
    async with keyed_gateway(redis_url, folder) as http:

        async def is_told() -> bool:
            return not (await http.get("/readyz")).json()["checks"]["redis"]

        os.kill(process, signal.SIGSTOP)
        try:
            await eventually(is_told)
            with monkeypatch.context() as patient:
                patient.setattr(SlidingWindowCounterRateLimiter, "hit", lambda *_, **__: asyncio.Event().wait())
                address = f"/v1/images/{NAME}/1.png"
                assert (await http.head(address, headers=as_key("caller"))).status_code == 200
                assert (await http.get(address, headers=as_key("caller"))).status_code == 503
        finally:
            os.kill(process, signal.SIGCONT)


async def test_without_redis_what_needs_no_queue_is_answered_uncounted(folder: Path) -> None:
    async with AsyncExitStack() as server:
        url = await server.enter_async_context(embedded_redis())
        async with keyed_gateway(url, folder) as http:
            address = f"/v1/images/{NAME}/1.png"
            assert (await http.head(address, headers=as_key("caller"))).status_code == 200
            await server.aclose()
            in_flight = [await http.head(address, headers=as_key("caller")) for _ in range(5)]
            assert [response.status_code for response in in_flight] == [200] * 5
            assert (await draw(http, "painter", 1)).status_code == 503
            assert (await http.head(address, headers=as_key("stranger"))).status_code == 401
