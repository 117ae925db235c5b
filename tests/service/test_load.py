"""The long runs, shortly: what ``make soak`` and ``make load`` find must be nothing."""

import sys
from pathlib import Path

import pytest

from tests.service import load
from tests.service.jobs.cluster import Cluster
from tests.service.jobs.soak import soak

pytestmark = pytest.mark.anyio

WORKER = [sys.executable, "-m", "service", "worker", "--device", "cpu"]


async def test_random_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, WORKER)
    try:
        report = await soak(cluster, seconds=15, seed=1)
    finally:
        await cluster.stop()
    assert report.wrong == []
    assert sum(report.kills.values()) >= 2
    assert report.jobs
    assert report.pictures


async def test_forty_clients_get_the_right_bytes(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, WORKER, {"CREPS_CACHE_BYTES": str(load.CACHE_BYTES)})
    try:
        report = await load.load(cluster, clients=40, seconds=5)
    finally:
        await cluster.stop()
    # So short a run says nothing of memory.
    assert [wrong for wrong in report.wrong if "grown" not in wrong] == []
    assert report.statuses[200] > 40
    assert len(report.digests) > load.POPULAR
