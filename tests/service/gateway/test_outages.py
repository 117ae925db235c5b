"""A Redis that stops answering, or is killed: clients are told so, and all goes on by itself once it is back."""

import signal
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from model.spec import Encoding, Latent, RenderSpec
from model.viewport import Viewport
from tests.service.jobs.cluster import Cluster, stand_in_cluster
from tests.service.jobs.stand_in import pattern
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with stand_in_cluster(tmp_path, ("redis", "gateway", "worker-1"), {}) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=LONG) as client:
        yield client


async def ask(http: httpx.AsyncClient, seed: int) -> int:
    """The status of a picture's answer, whose content is looked at."""
    answer = await http.get(f"/v1/images/pattern/{seed}.png?width=20&height=10")
    if answer.status_code == 200:
        spec = RenderSpec("", Latent(seed=seed), Viewport.resolve(20, 10), Encoding("png"))
        assert np.array_equal(np.asarray(Image.open(BytesIO(answer.content))), pattern(spec))
    else:
        assert answer.headers["Content-Type"] == "application/problem+json"
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) > 0
        assert "queue" in answer.json()["detail"]
    return answer.status_code


@pytest.mark.parametrize("outage", ["frozen", "killed"])
async def test_outages_are_told_and_end(cluster: Cluster, http: httpx.AsyncClient, outage: str) -> None:
    async def works() -> bool:
        return await ask(http, 3) == 200

    async def is_kept() -> bool:
        return 'creps_cache_bytes{cache="pictures"} 0.0' not in (await http.get("/metrics")).text

    assert await ask(http, 1) == 200
    await eventually(is_kept)
    if outage == "frozen":
        cluster.signal("redis", signal.SIGSTOP)
    else:
        cluster.kill("redis")
    for seed in (1, 2):  # one that is cached, in the same Redis, and one that is not
        assert await ask(http, seed) == 503
    readiness = await http.get("/readyz")
    assert (readiness.status_code, readiness.json()["checks"]["redis"]) == (503, False)
    for path in ("/v1/jobs", "/v1/models/pattern"):
        assert (await http.get(path)).status_code == 503
    for path in ("/livez", "/metrics"):
        assert (await http.get(path)).status_code == 200
    if outage == "frozen":
        cluster.signal("redis", signal.SIGCONT)
    else:
        await cluster.start("redis")
    await eventually(cluster.is_ready)
    await eventually(works)
    assert await ask(http, 1) == 200
    for part in ("gateway", "worker-1"):
        assert cluster.processes[part].returncode is None  # nobody had to be started again
