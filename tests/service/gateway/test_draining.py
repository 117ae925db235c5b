"""A gateway that is told to stop: in this process, and with all parts as processes of their own."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.gateway import server
from service.gateway.app import create_app
from service.models.catalog import Catalog
from service.runtime.redis import connect
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import StandInClient, services_of, settings
from tests.service.jobs.cluster import Cluster, persist, stand_in_cluster
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

DRAIN_SECONDS = 20.0
"""Enough for what is looked at meanwhile, on any machine."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    environment = {"CREPS_DRAIN_SECONDS": str(DRAIN_SECONDS), "CREPS_TEST_DELAY": "0.1"}
    async with stand_in_cluster(tmp_path, ("redis", "gateway", "worker-1"), environment) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=LONG) as client:
        yield client


async def follow(http: httpx.AsyncClient, job: str, after: str | None) -> tuple[str | None, list[dict[str, Any]]]:
    """All events until the gateway ends the stream, and the last one's id."""
    events = []
    headers = {"Last-Event-ID": after} if after else {}
    async with http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("id:"):
                after = line.removeprefix("id:").strip()
            if line.startswith("data:"):
                events.append(json.loads(line.removeprefix("data:")))
    return after, events


async def test_draining_ends_readiness_then_streams(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained = asyncio.Event()

    async def wait_instead(seconds: float) -> None:
        assert seconds == DRAIN_SECONDS
        await drained.wait()

    monkeypatch.setattr(server, "sleep", wait_instead)
    save_hollow_checkpoint(tmp_path, "plain")
    asked = settings(models=tmp_path, outputs=f"file://{tmp_path}/outputs", drain_seconds=DRAIN_SECONDS)
    stopping = asyncio.Event()

    async def run(listener: socket.socket) -> None:
        async with server.running_gateway(asked, redis_url, listener):
            await stopping.wait()

    with server.listen("127.0.0.1", 0) as listener:
        async with httpx.AsyncClient(base_url=server.address_of(listener), trust_env=False, timeout=LONG) as http:
            running = asyncio.create_task(run(listener))
            body = {"model": "plain", "seed": 1, "width": 64}
            job = (await persist(http, "POST", "/v1/jobs", json=body)).json()["id"]
            following = asyncio.create_task(follow(http, job, None))
            stopping.set()

            async def is_draining() -> bool:
                return "stopping" in (await http.get("/readyz")).json()["detail"]

            await eventually(is_draining)
            assert (await http.get("/livez")).status_code == 200
            answer = await http.get(f"/v1/jobs/{job}")
            assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
            assert not following.done()
            drained.set()
            _, events = await asyncio.wait_for(following, LONG)
            assert events[-1]["state"] == "queued"
        await asyncio.wait_for(running, LONG)


async def test_an_image_that_outlasts_the_drain_time_is_503(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DRAIN_TIMEOUT", 0.1)
    save_hollow_checkpoint(tmp_path, "plain")
    queue = StandInClient()
    queue.stuck = True

    async with connect(redis_url) as redis:
        app_state = services_of(settings(), Catalog(tmp_path, demo=tmp_path / "none"), queue, redis)
        with server.listen("127.0.0.1", 0) as listener:
            async with httpx.AsyncClient(base_url=server.address_of(listener), trust_env=False, timeout=LONG) as http:
                async with server.running_server(create_app(app_state), listener, keep_alive=5):
                    asking = asyncio.create_task(http.get("/v1/images/plain/1.png?width=8"))
                    await eventually(lambda: queue.asked)
                    app_state.stopping.set()
                answer = await asyncio.wait_for(asking, LONG)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["detail"] == "this gateway is stopping; try again"
    assert queue.cancelled.is_set()


@pytest.mark.slow
async def test_no_more_requests_then_an_end_and_jobs_go_on(cluster: Cluster, http: httpx.AsyncClient) -> None:
    order = {"model": "pattern", "seed": 1, "width": 512, "height": 512, "tile": 64, "output": "dzi"}
    job = (await http.post("/v1/jobs", json=order)).json()["id"]
    following = asyncio.create_task(follow(http, job, None))
    await eventually(lambda: list((cluster.outputs / "jobs" / job).glob("picture_files/*/*")))

    cluster.signal("worker-1", signal.SIGSTOP)  # the job goes on once all has been looked at, however long that takes
    cluster.signal("gateway", signal.SIGTERM)

    async def is_draining() -> bool:
        answer = await http.get("/readyz")
        return answer.status_code == 503 and "stopping" in answer.json()["detail"]

    await eventually(is_draining)
    assert (await http.get("/livez")).status_code == 200
    cluster.signal("worker-1", signal.SIGCONT)
    assert (await http.get("/v1/images/pattern/2.png?width=8&height=8")).status_code == 200
    cluster.signal("worker-1", signal.SIGSTOP)
    assert not following.done()
    last, before = await asyncio.wait_for(following, LONG)
    assert before[-1]["state"] == "running"
    assert await asyncio.wait_for(cluster.processes["gateway"].wait(), LONG) == 0

    cluster.signal("worker-1", signal.SIGCONT)
    await cluster.start("gateway")
    await eventually(cluster.is_ready)
    _, after = await follow(http, job, last)
    assert after[-1]["state"] == "succeeded"
    told = [tuple(tile) for event in (*before, *after) for tile in event["tiles"]]
    assert len(told) == len(set(told)) == after[-1]["tiles_total"] == after[-1]["tiles_done"]
