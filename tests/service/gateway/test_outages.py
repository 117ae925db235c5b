"""A Redis that hangs or is killed: clients get 503, and everything works again once it is back."""

import os
import signal
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from redis.asyncio import Redis

from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.runtime import redis as redis_module
from service.runtime.redis import connect
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.keyed import as_key, drawing_worker, keyed_gateway, write_keys
from tests.service.jobs.cluster import Cluster, stand_in_cluster
from tests.service.jobs.stand_in import pattern
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with stand_in_cluster(tmp_path, ("redis", "cache", "gateway", "worker-1"), {}) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=LONG) as client:
        yield client


async def ask(http: httpx.AsyncClient, seed: int) -> int:
    """The status of an image's response, whose content is checked."""
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


async def test_while_redis_hangs_clients_are_told_so(
    redis: "Redis", redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "REDIS_TIMEOUT", 1.0)
    process = int((await redis.info("server"))["process_id"])
    save_hollow_checkpoint(tmp_path, "plain")
    write_keys(tmp_path / "keys.toml", {"viewer": {}})
    async with keyed_gateway(redis_url, tmp_path) as http, drawing_worker(redis, tmp_path):

        async def status(seed: int) -> int:
            return (await http.get(f"/v1/images/plain/{seed}.png?width=8", headers=as_key("viewer"))).status_code

        async def is_back() -> bool:
            return await status(2) == 200

        await eventually(is_back)  # a busy machine may take longer than REDIS_TIMEOUT once
        os.kill(process, signal.SIGSTOP)
        try:
            assert await status(3) == 503
            readiness = await http.get("/readyz")
            assert (readiness.status_code, readiness.json()["checks"]["redis"]) == (503, False)
            assert (await http.get("/livez")).status_code == 200
        finally:
            os.kill(process, signal.SIGCONT)
        await eventually(is_back)


@pytest.mark.parametrize(
    ("setting", "value", "usual", "detail"),
    [("maxmemory", "1", "0", "out of memory"), ("replicaof", "127.0.0.1 1", "no one", "read-only")],
)
async def test_a_redis_that_refuses_to_write_is_told(
    redis: "Redis", redis_url: str, tmp_path: Path, setting: str, value: str, usual: str, detail: str
) -> None:
    save_hollow_checkpoint(tmp_path, "plain")
    write_keys(tmp_path / "keys.toml", {"viewer": {}})

    async def configure(value: str) -> None:
        if setting == "maxmemory":
            await redis.config_set(setting, value)
        else:
            await redis.replicaof(*value.split())

    async with keyed_gateway(redis_url, tmp_path) as http:
        await configure(value)
        try:
            answer = await http.post("/v1/jobs", json={"width": 64}, headers=as_key("viewer"))
        finally:
            await configure(usual)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert detail in answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("outage", ["frozen", "killed"])
async def test_outages_are_told_and_end(cluster: Cluster, http: httpx.AsyncClient, outage: str) -> None:
    async def works() -> bool:
        return await ask(http, 3) == 200

    async def needs_no_queue() -> bool:  # a look-up may take too long on a busy machine, but not each time
        return await ask(http, 1) == 200

    async def is_cached() -> bool:
        async with connect(cluster.cache_url) as cache:
            return bool(await cache.dbsize())

    assert await ask(http, 1) == 200
    await eventually(is_cached)
    if outage == "frozen":
        cluster.signal("redis", signal.SIGSTOP)
    else:
        cluster.kill("redis")
    assert await ask(http, 2) == 503
    await eventually(needs_no_queue)  # it is cached
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
