"""The service as its users run it: processes of its own on a free port."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from redis import Redis

from model.errors import InputError
from service.embedded_redis import embedded_redis

START_SECONDS = 120.0
"""How long the service may take until it is ready."""


@dataclass(frozen=True)
class Running:
    """A service that runs.

    Attributes:
        port: of the gateway.
        processes: process ids by name.
        outputs: where its jobs keep their files.
    """

    port: int
    processes: dict[str, int]
    outputs: Path

    def peak_mib(self) -> dict[str, float]:
        """The most memory that each process has held so far, in MiB."""
        return {name: _peak_mib(process) for name, process in self.processes.items()}


@contextmanager
def running_service(workers: int, models: Path | None = None) -> Iterator[Running]:
    """Queue, gateway and workers on the CPU while the block runs; the cores are shared out among the workers.

    Raises:
        InputError: it did not start.
    """
    with tempfile.TemporaryDirectory(prefix="creps-benchmark-") as folder, ExitStack() as stack:
        redis_url = stack.enter_context(_running_redis())
        outputs = Path(folder) / "outputs"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CREPS_")}
        environment |= {"CREPS_REDIS_URL": redis_url, "CREPS_OUTPUTS": outputs.as_uri(), "CREPS_LOG_LEVEL": "warning"}
        if models is not None:
            environment["CREPS_MODELS"] = str(models)
        gateway = stack.enter_context(_process(["gateway", "--port", "0"], environment))
        port = _wait_for_port(gateway)
        threads = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // workers, 1))}
        processes = {"queue": _process_of(redis_url), "gateway": gateway.pid}
        for number in range(workers):
            worker = stack.enter_context(_process(["worker", "--device", "cpu"], environment | threads))
            processes[f"worker {number + 1}"] = worker.pid
        _wait_for_workers(port, workers)
        yield Running(port, processes, outputs)


@contextmanager
def _process(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def _running_redis() -> Iterator[str]:
    """The embedded queue's server, looked after by a thread."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    ready: list[str] = []
    started = threading.Event()

    async def run() -> None:
        async with embedded_redis() as url:
            ready.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        if not started.wait(60):
            raise InputError("benchmark", "the queue's server did not start")
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _process_of(redis_url: str) -> int:
    with Redis.from_url(redis_url) as redis:
        found: int = redis.info("server")["process_id"]
    return found


def _wait_for_port(gateway: subprocess.Popen[str]) -> int:
    assert gateway.stdout is not None  # noqa: S101 - it was asked for
    for line in gateway.stdout:
        if match := re.search(r"listens on http://127\.0\.0\.1:(\d+)", line):
            return int(match[1])
    raise InputError("benchmark", "the service did not start; it has said why above")


def _wait_for_workers(port: int, workers: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=START_SECONDS) as answer:
            text = answer.read().decode()
        if sum(float(count) for count in re.findall(r"^creps_workers\{.*\} (\S+)$", text, re.MULTILINE)) >= workers:
            return
        time.sleep(0.2)
    raise InputError("benchmark", "the workers did not start; they have said why above")


def _peak_mib(process: int) -> float:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(match[1]) / 1024 if match else float("nan")
