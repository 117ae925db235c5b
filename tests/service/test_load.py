"""The long runs, shortly: what ``make soak`` and ``make load`` find must be nothing."""

from pathlib import Path

import pytest

from tests.service.jobs.soak import soak
from tests.service.load import POPULAR, load

pytestmark = pytest.mark.anyio


async def test_random_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    report = await soak(tmp_path, seconds=15, seed=18)  # whose first kill is of two parts at once
    assert report.wrong == []
    assert sum(report.kills.values()) >= 2
    assert report.jobs
    assert report.pictures


async def test_forty_clients_get_the_right_bytes(tmp_path: Path) -> None:
    report = await load(tmp_path, clients=40, seconds=5, pictures=POPULAR + 1)
    # So short a run says nothing of memory.
    assert [wrong for wrong in report.wrong if "grown" not in wrong] == []
    assert len(report.digests) > POPULAR
