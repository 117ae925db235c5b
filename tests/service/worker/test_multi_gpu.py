"""Several workers as processes, on CPUs in the place of GPUs."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from model.errors import InputError
from service.queue.client import RenderClient
from service.queue.messages import WorkerInfo
from service.worker import multi_gpu
from service.worker.multi_gpu import choose_gpus, run_workers
from tests.service.commands.test_worker import run_creps
from tests.service.ports import free_port
from tests.service.waiting import LONG, eventually, is_running

pytestmark = pytest.mark.anyio

PROGRAM = """
import asyncio, signal, sys
from service.worker.multi_gpu import run_workers

async def main():
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await run_workers(("cpu", "cpu"), int(sys.argv[1]), stopping)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("asked", "count", "devices"),
    [("all", 2, ["cuda:0", "cuda:1"]), ("0,2", 3, ["cuda:0", "cuda:2"]), ("1", 2, ["cuda:1"])],
)
def test_gpus_are_chosen(asked: str, count: int, devices: list[str]) -> None:
    assert choose_gpus(asked, count) == devices


@pytest.mark.parametrize(
    ("asked", "count", "message"),
    [("all", 0, "there is no GPU"), ("0,2", 2, "GPU 2 is not there: torch sees 2"), ("1,1", 2, "names a GPU twice")],
)
def test_gpus_that_are_not_there(asked: str, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_gpus(asked, count)


def two_free_ports() -> int:
    """The first of two neighbouring ports that are free."""
    while True:
        port = free_port()
        with suppress(OSError, OverflowError):
            free_port(port + 1)
            return port


def process_of(worker: WorkerInfo) -> int:
    return int(worker.id.split("-")[-2])


@pytest.fixture
async def group(redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The process that keeps the workers, and their first metrics port."""
    environment = os.environ | {"CREPS_REDIS_URL": redis_url, "CREPS_OUTPUTS": str(tmp_path)}
    port = two_free_ports()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, str(port), env=environment)
    try:
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()  # its workers go with it
            await process.wait()


async def test_every_device_has_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    code = f"import sys, time; open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n'); time.sleep(1000)"
    monkeypatch.setattr(multi_gpu, "WORKER", (sys.executable, "-c", code))
    stopping = asyncio.Event()
    running = asyncio.create_task(run_workers(("cuda:0", "cuda:1"), 9000, stopping))
    wanted = ["--device cuda:0 --metrics-port 9000", "--device cuda:1 --metrics-port 9001"]
    await eventually(lambda: log.exists() and sorted(log.read_text().splitlines()) == wanted)
    stopping.set()
    await asyncio.wait_for(running, LONG)


async def test_a_process_that_gives_up_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys, time; time.sleep(1000) if 'cuda:0' in sys.argv else sys.exit(2)"
    monkeypatch.setattr(multi_gpu, "WORKER", (sys.executable, "-c", code))
    with pytest.raises(InputError, match="cuda:1"):
        await asyncio.wait_for(run_workers(("cuda:0", "cuda:1"), None, asyncio.Event()), LONG)


@pytest.mark.slow
async def test_every_device_has_a_worker_that_is_started_again_when_it_dies(
    redis: "Redis", group: tuple[asyncio.subprocess.Process, int]
) -> None:
    parent, port = group
    async with RenderClient(redis, 10) as client, httpx.AsyncClient(trust_env=False, timeout=LONG) as http:

        async def processes() -> set[int]:
            return {process_of(worker) for worker in await client.workers()}

        started: set[int] = set()

        async def both_run() -> bool:
            started.update(pid for pid in await processes() if is_running(pid))
            return len(started) == 2

        await eventually(both_run)
        killed, other = started
        os.kill(killed, signal.SIGKILL)

        async def another_runs() -> bool:
            return other in (now := await processes()) and len(now - {killed}) == 2

        await eventually(another_runs)
        for number in range(2):
            assert (await http.get(f"http://127.0.0.1:{port + number}/livez")).text == "alive"
        running = await processes() - {killed}
        parent.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(parent.wait(), LONG) == 0
        assert not any(map(is_running, running))
        assert not [worker for worker in await client.workers() if process_of(worker) in running]  # they signed off


async def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    process = await run_creps("worker", "--redis-url", "redis://localhost:1", "--gpus", "all", "--log-level", "error")
    _, told = await asyncio.wait_for(process.communicate(), LONG)
    assert process.returncode == 2
    (line,) = told.decode().splitlines()
    assert line.startswith("creps worker: error: gpus: there is no GPU that torch sees")
