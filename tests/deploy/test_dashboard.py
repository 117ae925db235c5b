"""The dashboard's queries and the alerts in a real Prometheus that scrapes a real gateway and worker."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from model.checkpoint import save_checkpoint
from model.generator import Generator
from tests.service.commands.test_serve import TINY
from tests.service.jobs.cluster import Cluster
from tests.service.ports import free_port
from tests.service.waiting import LONG, eventually

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "docker" / "grafana" / "dashboards" / "creps.json").read_text())
RULES = ROOT / "docker" / "prometheus" / "alerts.yml"

WITHOUT_DATA = {"Dropped requests", "GPU memory"}
"""Panels that show nothing of a service without a GPU that all goes well with."""


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


QUERIES = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def test_panels_have_one_source_and_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert {panel["datasource"]["uid"] for panel in panels()} == {"prometheus"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_queries_and_alerts_use_metrics_that_exist() -> None:
    table = re.findall(r"^\| `(creps_\w+)", (ROOT / "docs" / "observability.md").read_text(), re.MULTILINE)
    known = {name + suffix for name in table for suffix in ("", "_bucket", "_count", "_sum")}
    for text in (expression for _, expression in QUERIES):
        assert set(re.findall(r"creps_\w+", text)) <= known, text
    assert set(re.findall(r"creps_\w+", RULES.read_text())) <= known


@pytest.mark.parametrize(("title", "expression"), QUERIES)
def test_queries_are_right_under_several_gateways(title: str, expression: str) -> None:
    """Counters are summed, what gateways share is not; both without the instance."""
    shared = r"creps_(workers|queue_depth|queue_oldest_seconds|queue_limit|jobs|cache_bytes)\b"
    for found in re.finditer(shared, expression):
        assert re.search(r"max( by \(state\)| by \(stream\)| by \(cache\))? ?\($", expression[: found.start()]), title
    for found in re.finditer(r"creps_\w+_(total|bucket|count|sum)\b", expression):
        assert re.search(r"sum( by \([a-z, ]+\))? ?\((rate|increase)\($", expression[: found.start()]), title


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes the ports, with our alerts."""
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in targets.items()
    ]
    clock = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": clock, "rule_files": [str(RULES)], "scrape_configs": jobs}))
    port = free_port()
    options = (
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log)
    try:
        transport = httpx.HTTPTransport(retries=8)
        address = f"http://127.0.0.1:{port}/api/v1/"
        with httpx.Client(base_url=address, timeout=LONG, transport=transport, trust_env=False) as http:
            yield http
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not shutil.which("prometheus"), reason="Debian's prometheus is not installed")
@pytest.mark.slow
class TestWithPrometheus:
    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def cluster(self, tmp_path: Path) -> AsyncIterator[Cluster]:
        worker = (sys.executable, "-m", "service", "worker", "--device", "cpu", "--metrics-port", str(free_port()))
        cluster = Cluster(tmp_path, worker)
        torch.manual_seed(0)
        save_checkpoint(cluster.models / "tiny.safetensors", Generator(TINY))
        async with cluster.running("redis", "cache", "gateway", "worker-1"):
            yield cluster

    async def test_every_query_finds_what_there_is_and_no_alert_is_raised(
        self, cluster: Cluster, tmp_path: Path
    ) -> None:
        (folder := tmp_path / "prometheus").mkdir()
        targets = {"creps-gateway": cluster.port, "creps-worker": int(cluster.worker[-1])}
        with prometheus(folder, targets) as server:
            seed = 0

            def both_are_scraped() -> bool:
                return len(self.ask(server, "up == 1")) == 2

            async def all_is_found() -> bool:
                """Draws a little: a rate needs something to happen between two scrapes."""
                nonlocal seed
                seed += 1
                async with httpx.AsyncClient(base_url=cluster.address, timeout=LONG, trust_env=False) as http:
                    for image_format in ("png", "jpeg", "webp"):
                        for _ in range(2):  # once from the cache
                            await http.get(f"/v1/images/tiny/{seed}.{image_format}?width=40")
                    await http.get("/v1/images/tiny/1.png?width=0")
                    await http.post("/v1/jobs", json={"model": "tiny", "seed": seed, "width": 300, "output": "dzi"})
                return {title for title, expression in QUERIES if not self.ask(server, expression)} == WITHOUT_DATA

            await eventually(lambda: server.get(server.base_url.join("/-/ready")).is_success)
            await eventually(both_are_scraped)
            await eventually(all_is_found)
            await eventually(lambda: not self.raised(server))  # one late scrape on a busy machine is no alert

    def raised(self, server: httpx.Client) -> set[str]:
        """Alerts that are raised, or soon will be. Fails where a rule cannot be evaluated."""
        groups = server.get("rules").json()["data"]["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert {rule["health"] for rule in rules.values()} == {"ok"}, rules
        return {name for name, rule in rules.items() if rule["state"] != "inactive"}

    def ask(self, server: httpx.Client, expression: str) -> list[Any]:
        """The values of a query that are numbers."""
        answer = server.post("query", data={"query": expression.replace("$__rate_interval", "10s")}).json()
        assert answer["status"] == "success", (expression, answer)
        return [series for series in answer["data"]["result"] if series["value"][1] != "NaN"]
