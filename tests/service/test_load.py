"""Short runs of ``make soak`` and ``make load``."""

from pathlib import Path

import pytest

from tests.service.jobs.soak import soak
from tests.service.load import load

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_random_kills_under_load_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.service.jobs.soak.MAX_SIDE", 500)
    report = await soak(tmp_path, seconds=15, seed=18)  # whose first kill is of two parts at once
    assert report.wrong == []
    assert sum(report.kills.values()) >= 2
    assert report.jobs
    assert report.images


async def test_twenty_clients_get_the_right_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.service.load.POPULAR", 10)
    report = await load(tmp_path, clients=20, seconds=3, images=20)
    # So short a run says nothing of memory.
    assert [wrong for wrong in report.wrong if "grown" not in wrong] == []
    assert len(report.digests) >= 20
