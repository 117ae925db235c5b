"""Real processes killed with SIGKILL in the middle of jobs: the same bytes, or a reason."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.checkpoint import Checkpoint
from service.imaging.export_spec import ExportSpec
from service.jobs.job import Job
from tests.service.jobs.cluster import Cluster, persist, stand_in_cluster
from tests.service.jobs.stand_in import KILLS, expected_tiles, files_below, image_of, journal
from tests.service.waiting import eventually

pytestmark = pytest.mark.anyio

PARTS = ("redis", "gateway", "worker-1", "worker-2")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with stand_in_cluster(tmp_path, PARTS, {"CREPS_TEST_DELAY": "0.02"}) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def checkpoint(cluster: Cluster) -> Checkpoint:
    return Checkpoint.open(cluster.models / "pattern.safetensors")


async def export(http: httpx.AsyncClient, **values: Any) -> str:
    body = {"model": "pattern", "seed": 1, "width": 500, "height": 400, "tile": 64, **values}
    answer = await persist(http, "POST", "/v1/jobs", json=body, headers={"Idempotency-Key": f"key {values}"})
    assert answer.status_code == 202, answer.text
    identifier: str = answer.json()["id"]
    return identifier


async def status(http: httpx.AsyncClient, job: str) -> dict[str, Any]:
    answer = await persist(http, "GET", f"/v1/jobs/{job}")
    assert answer.status_code == 200, answer.text
    described: dict[str, Any] = answer.json()
    return described


async def ended(http: httpx.AsyncClient, job: str) -> dict[str, Any]:
    async def has_ended() -> bool:
        return (await status(http, job))["state"] not in ("queued", "running")

    await eventually(has_ended)
    return await status(http, job)


def recorded_order(cluster: Cluster, job: str) -> ExportSpec:
    return image_of(Job.from_json((cluster.outputs / "jobs" / job / "job.json").read_bytes()))


@pytest.mark.parametrize(
    "victims",
    [PARTS, *(pytest.param((part,), marks=pytest.mark.slow) for part in ("worker-1", "gateway", "redis"))],
)
async def test_killed_in_the_middle(
    cluster: Cluster, http: httpx.AsyncClient, checkpoint: Checkpoint, victims: tuple[str, ...]
) -> None:
    job = await export(http, format="jpeg")

    async def is_under_way() -> bool:
        return float((await status(http, job))["progress"]) > 0.3

    await eventually(is_under_way)
    for victim in victims:
        cluster.kill(victim)
    await asyncio.sleep(0.3)
    for victim in victims:
        await cluster.start(victim)
    assert await export(http, format="jpeg") == job  # the key's, whatever Redis may have lost
    assert (await ended(http, job))["state"] == "succeeded"
    wanted = expected_tiles(recorded_order(cluster, job))
    files = files_below(cluster.outputs / "jobs" / job)
    kept = {name for name in files if "#" not in name}  # else it is no object: what a killed worker was about to put
    assert kept == {*wanted, "job.json", "picture.dzi"}
    assert {name: files[name] for name in wanted} == wanted
    # What was under way was drawn again, and no more than that: two hands of tiles for each worker.
    assert len(journal(cluster.models)) <= len(wanted) + 2 * 2 * 25


@pytest.mark.slow
async def test_a_tile_that_kills_every_worker(
    cluster: Cluster, http: httpx.AsyncClient, checkpoint: Checkpoint
) -> None:
    job = await export(http, seed=KILLS)
    other = await export(http, seed=2)
    described: asyncio.Task[dict[str, Any]] = asyncio.create_task(ended(http, job))
    deaths = 0
    while not described.done():
        for part in ("worker-1", "worker-2"):
            if cluster.processes[part].returncode is not None:
                deaths += 1
                await cluster.start(part)
        await asyncio.sleep(0.05)
    assert (await described)["state"] == "failed"
    assert (await described)["error"] == "given up: 5 workers were lost while they drew it"
    assert 2 <= deaths <= 5  # a worker that stalls counts as lost, too, and need not die of it
    assert (await ended(http, other))["state"] == "succeeded"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    """The outputs' folder has room for 200 kB."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(outputs)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode:
        pytest.skip("only root can mount a small file system, and not everywhere")
    yield
    subprocess.run(["umount", "--lazy", str(outputs)], check=True)


@pytest.mark.usefixtures("small_disk")
async def test_a_full_disk(cluster: Cluster, http: httpx.AsyncClient) -> None:
    described = await ended(http, await export(http))
    assert described["state"] == "failed"
    assert described["error"] == "the store failed: No space left on device"
    await eventually(lambda: not files_below(cluster.outputs))
