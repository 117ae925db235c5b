"""Several gateway processes on one port, killed, stopped, replaced and stalled while clients wait."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from model.errors import InputError
from service.gateway import processes as processes_module
from service.gateway.processes import GatewayProcesses, listen_together
from service.gateway.server import address_of
from tests.service.gateway.stand_in import settings
from tests.service.gateway.test_metrics import metric
from tests.service.jobs.cluster import Cluster, stand_in_cluster
from tests.service.waiting import LONG, eventually, is_running

pytestmark = pytest.mark.anyio

IMAGES = 'creps_http_requests_total{method="GET",route="/v1/images/{model}/{seed}.{format}",status="200"}'

MIB = 2**20


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    environment = {"CREPS_PROCESSES": "2", "CREPS_ANSWER_BYTES": str(8 * MIB)}
    async with stand_in_cluster(tmp_path, ("redis", "gateway", "worker-1"), environment) as cluster:
        await eventually(lambda: "listens on" in (cluster.folder / "logs" / "gateway").read_text())
        yield cluster


def gateway_processes(parent: int) -> set[int]:
    """Process ids of the processes that answer requests. They may just start."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return {int(child) for child in children if "service.gateway.process" in read_of(child, "cmdline")}


def read_of(pid: str, file: str) -> str:
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def fetch(cluster: Cluster, path: str) -> httpx.Response:
    """A response on a connection of its own, which may be any process'."""
    async with httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=LONG) as http:
        return await http.get(path)


async def fetch_images(cluster: Cluster, seeds: range) -> list[httpx.Response | BaseException]:
    images = [fetch(cluster, f"/v1/images/pattern/{seed}.png?width=8&height=8") for seed in seeds]
    return await asyncio.gather(*images, return_exceptions=True)


async def counted(cluster: Cluster) -> float:
    return metric((await fetch(cluster, "/metrics")).text, IMAGES)


async def test_a_killed_process_takes_no_other_requests_with_it(cluster: Cluster) -> None:
    parent = cluster.processes["gateway"].pid
    before = gateway_processes(parent)
    assert len(before) == 2
    assert all(f"\0CREPS_ANSWER_BYTES={4 * MIB}\0" in read_of(str(pid), "environ") for pid in before)
    assert {getattr(answer, "status_code", 0) for answer in await fetch_images(cluster, range(20))} == {200}
    for _ in range(4):  # whichever process answers
        assert await counted(cluster) == 20

    cluster.signal("worker-1", signal.SIGSTOP)
    waiting = asyncio.create_task(fetch_images(cluster, range(100, 132)))

    async def are_queued() -> bool:
        return metric((await fetch(cluster, "/metrics")).text, 'creps_queue_depth{stream="pictures"}') == 32

    await eventually(are_queued)
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    during = asyncio.create_task(fetch_images(cluster, range(200, 216)))  # some wait for the new process
    cluster.signal("worker-1", signal.SIGCONT)
    answers = await waiting
    lost = [answer for answer in answers if isinstance(answer, httpx.TransportError)]
    assert 0 < len(lost) < 32
    assert sum(isinstance(answer, httpx.Response) and answer.status_code == 200 for answer in answers) == 32 - len(lost)
    assert {getattr(answer, "status_code", 0) for answer in await during} == {200}
    assert len(gateway_processes(parent)) == 2
    assert killed not in gateway_processes(parent)

    # Those of the killed process are still counted, and no other is counted twice.
    assert await counted(cluster) == 20 + (32 - len(lost)) + 16
    text = (await fetch(cluster, "/metrics")).text
    assert metric(text, "creps_gateway_restarts_total") == 1
    memory = re.findall(r'^process_resident_memory_bytes{process="(\w+)"} [1-9]', text, re.MULTILINE)
    assert sorted(memory) == ["1a", "2a"]
    families = re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)
    assert len(set(families)) == len(families)
    assert 'pid="' not in text
    assert "creps_render_batch_size" not in text, "workers tell that"
    assert len(re.findall(r"^creps_build_info{python=.*,version=.*} 1.0$", text, re.MULTILINE)) == 1
    assert re.search(r"gateway process \d ended with status -9", (cluster.folder / "logs" / "gateway").read_text())


async def test_requests_are_finished_at_the_end(cluster: Cluster) -> None:
    cluster.signal("worker-1", signal.SIGSTOP)
    children = gateway_processes(cluster.processes["gateway"].pid)
    waiting = asyncio.create_task(fetch_images(cluster, range(16)))

    async def are_queued() -> bool:
        return metric((await fetch(cluster, "/metrics")).text, 'creps_queue_depth{stream="pictures"}') == 16

    await eventually(are_queued)
    cluster.signal("gateway", signal.SIGTERM)

    async def is_refused() -> bool:
        try:
            await fetch(cluster, "/livez")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:  # accepted just before
            pass
        return False

    await eventually(is_refused)
    cluster.signal("worker-1", signal.SIGCONT)
    assert {getattr(answer, "status_code", 0) for answer in await waiting} == {200}
    assert await asyncio.wait_for(cluster.processes["gateway"].wait(), LONG) == 0
    assert not any(map(is_running, children))


@pytest.mark.slow
async def test_processes_are_replaced_without_losing_a_request(cluster: Cluster) -> None:
    parent = cluster.processes["gateway"].pid
    for _ in range(2):
        before = gateway_processes(parent)
        cluster.signal("gateway", signal.SIGHUP)
        answered = await counted(cluster)
        while before & gateway_processes(parent) or len(gateway_processes(parent)) != 2:
            answers = await fetch_images(cluster, range(8))
            assert {getattr(answer, "status_code", 0) for answer in answers} == {200}
            assert (await fetch(cluster, "/readyz")).status_code == 200
            answered += 8
            assert await counted(cluster) == answered
    assert metric((await fetch(cluster, "/metrics")).text, "creps_gateway_restarts_total") == 0
    cluster.signal("gateway", signal.SIGTERM)
    assert await asyncio.wait_for(cluster.processes["gateway"].wait(), LONG) == 0


@pytest.mark.slow
async def test_a_process_that_hangs_is_killed(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "STALL_TIMEOUT", 10.0)
    asked = settings("some-key", outputs=f"file://{tmp_path}/outputs")
    listeners = listen_together("127.0.0.1", 0, 2)
    async with GatewayProcesses(asked, redis_url, listeners) as processes:
        await processes.ready()
        hanging = min(gateway_processes(os.getpid()))
        os.kill(hanging, signal.SIGSTOP)
        await eventually(lambda: hanging not in gateway_processes(os.getpid()))
        await processes.ready()
        async with httpx.AsyncClient(base_url=address_of(listeners[0]), trust_env=False, timeout=LONG) as http:
            key = {"X-API-Key": "some-key"}
            assert [(await http.get("/v1/models", headers=given)).status_code for given in ({}, key)] == [401, 200]


async def run_two_processes(redis_url: str, *options: str) -> list[str]:
    """The lines on stderr of a gateway that cannot start."""
    command = [sys.executable, "-m", "service", "gateway", "--processes", "2", "--port", "0", "--redis-url", redis_url]
    process = await asyncio.create_subprocess_exec(*command, *options, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    output, errors = await asyncio.wait_for(process.communicate(), LONG)
    assert (process.returncode, output) == (2, b"")
    assert b"Traceback" not in errors
    return errors.decode().splitlines()


async def test_processes_that_cannot_start_end_all(redis_url: str) -> None:
    *lines, last = await run_two_processes(redis_url, "--outputs", "file:///proc/none")
    assert any(line.startswith("creps gateway: error: outputs") for line in lines)
    assert last.startswith("creps gateway: error: processes: ")


async def test_an_invalid_file_of_keys_is_told_once(redis_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text("[[key]]\n")
    (line,) = await run_two_processes(redis_url, "--api-keys-file", str(keys))
    assert line.startswith(f"creps gateway: error: CREPS_API_KEYS_FILE: {keys}: key 1")


def test_a_port_is_never_shared_with_another_service() -> None:
    first = listen_together("127.0.0.1", 0, 2)
    port = first[0].getsockname()[1]
    assert {listener.getsockname()[1] for listener in first} == {port}
    with pytest.raises(InputError, match=str(port)):
        listen_together("127.0.0.1", port, 2)
    for listener in first:
        listener.close()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(InputError, match="in use"):
        listen_together("127.0.0.1", port, 2)
