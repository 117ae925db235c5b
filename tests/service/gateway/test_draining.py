"""A gateway that is asked to stop, with all parts as processes of their own."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.jobs.cluster import Cluster, stand_in_cluster
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

DRAIN_SECONDS = 10.0
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
