"""A service in processes of its own, on a free port."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from anyio.from_thread import start_blocking_portal
from redis import Redis

from model.errors import InputError
from service.runtime.embedded_redis import embedded_cache, embedded_redis
from service.runtime.settings import Settings

_START_TIMEOUT = 120.0


@dataclass(frozen=True)
class RunningService:
    """The gateway's port, the process ids by name, and the address of the queue's Redis."""

    port: int
    processes: dict[str, int]
    redis_url: str

    def peak_mib(self) -> dict[str, float]:
        """Peak memory of each process so far, in MiB."""
        return {name: _peak_mib(process) for name, process in self.processes.items()}


@contextmanager
def running_service(
    workers: int,
    models: Path | None = None,
    worker: Sequence[str] = ("service", "worker", "--device", "cpu"),
    gateways: int = 1,
) -> Iterator[RunningService]:
    """Redis, an image cache, a gateway and CPU workers that share the cores. Raises InputError if one did not start.

    ``worker`` is the module of the workers, with its arguments; ``gateways`` the number of the gateway's processes.
    """
    with ExitStack() as stack:
        outputs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="creps-benchmark-")))
        portal = stack.enter_context(start_blocking_portal())
        redis_url = stack.enter_context(portal.wrap_async_context_manager(embedded_redis()))
        cache = embedded_cache(Settings().cache_bytes)
        cache_url = stack.enter_context(portal.wrap_async_context_manager(cache))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CREPS_")}
        environment |= {"CREPS_REDIS_URL": redis_url, "CREPS_CACHE_URL": cache_url, "CREPS_LOG_LEVEL": "warning"}
        environment |= {"CREPS_OUTPUTS": outputs.as_uri(), "CREPS_PROCESSES": str(gateways)}
        if models is not None:
            environment["CREPS_MODELS"] = str(models)
        environment["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // workers, 1))
        gateway = stack.enter_context(_process(["service", "gateway", "--port", "0"], environment))
        processes = {"redis": _pid_of(redis_url), "cache": _pid_of(cache_url), "gateway": gateway.pid}
        for number in range(workers):
            processes[f"worker {number + 1}"] = stack.enter_context(_process(worker, environment)).pid
        port = _read_port(gateway)
        wait_until(lambda: _count_workers(port) >= workers, "the workers did not start; see their errors above")
        yield RunningService(port, processes, redis_url)


@contextmanager
def _process(module: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()


def _pid_of(redis_url: str) -> int:
    with Redis.from_url(redis_url) as redis:
        return int(redis.info("server")["process_id"])


def _read_port(gateway: subprocess.Popen[str]) -> int:
    assert gateway.stdout is not None  # noqa: S101 - it is a pipe
    for line in gateway.stdout:
        if match := re.search(r"listens on http://127\.0\.0\.1:(\d+)", line):
            return int(match[1])
    raise InputError("benchmark", "the gateway did not start; see its error above")


def wait_until(ready: Callable[[], bool], failure: str) -> None:
    """Poll a server that starts. Raises InputError with the message ``failure`` if it takes too long."""
    end = time.monotonic() + _START_TIMEOUT
    while not ready():
        if time.monotonic() > end:
            raise InputError("benchmark", failure)
        time.sleep(0.2)


def _count_workers(port: int) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=_START_TIMEOUT, trust_env=False).text
    return sum(float(count) for count in re.findall(r"^creps_workers\{.*\} (\S+)$", text, re.MULTILINE))


def _peak_mib(process: int) -> float:
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(match[1]) / 1024 if match else float("nan")


def cpu_seconds(process: int) -> float:
    """Processor time of a process and its living children so far (Linux)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
        children = [child for task in Path(f"/proc/{process}/task").iterdir() for child in _children(task)]
    except FileNotFoundError:  # it has ended
        return 0.0
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc(5)
    return ticks / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children))


def _children(task: Path) -> list[int]:
    return [int(child) for child in (task / "children").read_text().split()]
