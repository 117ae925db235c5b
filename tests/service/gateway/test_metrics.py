"""What a gateway tells Prometheus."""

import asyncio
import re
import signal
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from obstore.store import MemoryStore
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from model.checkpoint import Checkpoint
from service.gateway import redis_metrics
from service.gateway.image_cache import ImageCache
from service.gateway.state import AppState
from service.models.catalog import Catalog
from service.queue.client import RenderClient
from service.queue.messages import WorkerInfo
from service.runtime import gateway_metrics, metrics, worker_metrics
from service.runtime.redis import connect
from service.runtime.redis_keys import IMAGES
from service.worker.gpu_metrics import register_gpu_memory
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.keyed import drawing_worker
from tests.service.gateway.stand_in import RunningGateway, settings
from tests.service.jobs.cluster import Cluster
from tests.service.jobs.stand_in import make_job
from tests.service.stand_in import WAITS, make_spec, open_gate
from tests.service.waiting import LONG, eventually

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "observability.md"


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics(gateway: RunningGateway) -> None:
    gateway.queue.alive = [
        WorkerInfo("1", "cpu", "idle", ()),
        WorkerInfo("2", "cpu", "busy", ()),
        WorkerInfo("3", "cpu", "busy", ()),
    ]
    route = 'route="/v1/images/{model}/{seed}.{format}"'
    requests = f'creps_http_requests_total{{method="GET",{route},status="200"}}'
    refused = f'creps_http_requests_total{{method="GET",{route},status="422"}}'
    unmatched = 'creps_http_requests_total{method="other",route="unmatched",status="404"}'
    durations = f"creps_http_request_duration_seconds_count{{{route}}}"
    before = gateway.http.get("/metrics").text
    gateway.image("plain/1.png")
    gateway.image("plain/2.jpeg")
    gateway.image("plain/2.jpeg?width=0")
    gateway.http.request("PROPFIND", "/nowhere")
    after = gateway.http.get("/metrics").text
    assert metric(after, requests) - metric(before, requests) == 2
    assert metric(after, refused) - metric(before, refused) == 1
    assert metric(after, unmatched) - metric(before, unmatched) == 1
    assert metric(after, durations) - metric(before, durations) == 3
    assert metric(after, 'creps_queue_depth{stream="pictures"}') == 3
    assert metric(after, 'creps_workers{state="busy"}') == 2
    assert metric(after, 'creps_workers{state="idle"}') == 1
    assert metric(after, 'creps_workers{state="stopping"}') == 0
    assert metric(after, "creps_queue_limit") == 256
    assert metric(after, "creps_devices_lost") == 0
    assert metric(after, "creps_redis_up") == 1


def test_scrapes_at_once_are_all_whole(gateway: RunningGateway) -> None:
    def workers(_: int) -> Iterable[str]:
        return re.findall("^creps_workers{.*", gateway.http.get("/metrics").text, re.MULTILINE)

    with ThreadPoolExecutor(8) as threads:
        assert {tuple(found) for found in threads.map(workers, range(40))} == {
            (
                'creps_workers{state="idle"} 1.0',
                'creps_workers{state="busy"} 0.0',
                'creps_workers{state="stopping"} 0.0',
            )
        }


def test_without_redis_nothing_of_a_moment_ago_is_told(gateway: RunningGateway) -> None:
    gateway.http.get("/livez")  # which is counted
    gateway.queue.away = RedisConnectionError("refused")
    response = gateway.http.get("/metrics")
    assert response.status_code == 200
    assert metric(response.text, "creps_redis_up") == 0
    assert "creps_http_requests_total{" in response.text
    assert not re.search("^creps_(workers|queue_depth|jobs|cache_bytes)", response.text, re.MULTILINE)


def test_the_documentation_has_every_metric(gateway: RunningGateway) -> None:
    registry = CollectorRegistry()
    register_gpu_memory(StandInCuda(), "cuda:0", registry)
    text = gateway.http.get("/metrics").text + generate_latest(registry).decode()
    labels = {
        next(iter(metric.describe())).name: frozenset(metric._labelnames)
        for module in (metrics, gateway_metrics, worker_metrics)
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
    }
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("creps_") and not family.name.endswith("_created"):  # when a counter began
            name = family.name + ("_total" if family.type == "counter" else "")
            shown = frozenset(name for sample in family.samples for name in sample.labels)
            found[name] = (family.type, labels.get(family.name, shown))
    rows = re.findall(
        r"^\| `(creps_\w+)(?:{([\w,]+)})?` \| (\w+) \|", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == len(found)
    assert {name: (kind, frozenset(filter(None, given.split(",")))) for name, given, kind in rows} == found


class StandInCuda:
    """What is asked of torch.cuda."""

    def memory_allocated(self, device: str) -> int:
        return {"cuda:0": 3}[device]

    def memory_reserved(self, device: str) -> int:
        return {"cuda:0": 4}[device]

    def get_device_properties(self, device: str) -> SimpleNamespace:
        return SimpleNamespace(total_memory={"cuda:0": 10}[device])


def test_a_gpus_memory_is_told_as_it_is_when_asked() -> None:
    cuda, registry = StandInCuda(), CollectorRegistry()
    register_gpu_memory(cuda, "cuda:0", registry)

    def read() -> dict[str, float | None]:
        labels = [{"device": "cuda:0", "kind": kind} for kind in ("allocated", "reserved", "total")]
        return {given["kind"]: registry.get_sample_value("creps_gpu_memory_bytes", given) for given in labels}

    assert read() == {"allocated": 3, "reserved": 4, "total": 10}
    cuda.memory_allocated = lambda device: 1  # type: ignore[method-assign]
    assert read()["allocated"] == 1


class TestWithRedis:
    """Two gateways and a worker around a real server."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Checkpoint:
        return save_hollow_checkpoint(tmp_path, "plain")

    async def read(self, app_state: AppState) -> dict[str, float]:
        """Every sample as ``name`` or ``name value-of-its-label``."""
        text = (await redis_metrics.redis_metrics(app_state)).decode()
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def app_state(self, client: RenderClient, redis: "Redis", folder: Path) -> AppState:
        catalog, cache = Catalog(folder, demo=folder / "none"), ImageCache(redis)
        return AppState(settings(), redis, client, catalog, MemoryStore(), cache)

    async def test_every_gateway_tells_the_state_that_all_share(
        self, redis: "Redis", checkpoint: Checkpoint, tmp_path: Path
    ) -> None:
        async with RenderClient(redis, 256) as one, RenderClient(redis, 256) as other:
            gateways = [self.app_state(client, redis, tmp_path) for client in (one, other)]
            await gateways[0].jobs.create(make_job(checkpoint.digest))
            waiting = asyncio.create_task(one.render(make_spec(checkpoint.digest, WAITS), LONG))
            await eventually(lambda: redis.xlen(IMAGES))  # else a worker would begin with the job

            async def is_busy() -> bool:
                return (await self.read(gateways[1])).get("creps_workers busy") == 1

            async with drawing_worker(redis, tmp_path):
                await eventually(is_busy)
                for found in [await self.read(gateway) for gateway in gateways]:
                    assert found["creps_redis_up"] == 1
                    assert found["creps_queue_depth pictures"] == 1
                    assert found["creps_queue_depth tiles"] > 1
                    assert 0 < found["creps_queue_oldest_seconds pictures"] < LONG
                    assert found["creps_jobs queued"] == 1
                    assert found["creps_jobs failed"] == 0
                    assert found["creps_cache_bytes pictures"] > 100
                open_gate(tmp_path)
                await waiting
            found = await self.read(gateways[0])
        assert found["creps_queue_depth pictures"] == found["creps_queue_oldest_seconds pictures"] == 0
        assert [found[f"creps_workers {state}"] for state in ("idle", "busy", "stopping")] == [0, 0, 0]

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
    async def test_a_server_that_is_dead_or_hangs(
        self, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = Cluster(tmp_path, worker=())  # whose Redis nobody starts again at once
        try:
            await cluster.start("redis")
            async with connect(cluster.redis_url) as redis, RenderClient(redis, 256) as client:
                app_state = self.app_state(client, redis, tmp_path)
                assert (await self.read(app_state))["creps_redis_up"] == 1
                monkeypatch.setattr(redis_metrics, "REDIS_TIMEOUT", 0.2)
                cluster.signal("redis", number)
                if number == signal.SIGKILL:
                    await cluster.processes["redis"].wait()
                assert await self.read(app_state) == {"creps_redis_up": 0}
                if number == signal.SIGKILL:
                    await cluster.start("redis")
                else:
                    cluster.signal("redis", signal.SIGCONT)

                async def is_back() -> bool:
                    return (await self.read(app_state))["creps_redis_up"] == 1

                await eventually(is_back)
        finally:
            await cluster.stop()
