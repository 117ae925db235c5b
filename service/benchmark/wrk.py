"""wrk, an HTTP client that costs little beside the servers that it measures."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from model.errors import InputError
from service.benchmark.processes import cpu_seconds

RESPONSE_TIMEOUT = 30


@dataclass(frozen=True)
class Target:
    """A server and its requests. ``path`` and ``body`` have ``%d`` in place of the seed.

    ``processes`` are the ids of the processes whose time is measured, with all their children.
    """

    port: int
    path: str
    processes: Mapping[str, int]
    body: str = ""


@dataclass(frozen=True)
class Load:
    """What a server did under load. ``cpu_ms`` is the processor time for each response, by process."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_ms: dict[str, float]


def require_wrk() -> str:
    """The path of wrk. Raises InputError if it is not installed."""
    if (path := shutil.which("wrk")) is None:
        raise InputError("benchmark", "wrk is not installed: apt install wrk")
    return path


def measure_load(target: Target, clients: int, seconds: int, first_seed: int) -> Load:
    """Load a server with requests of different seeds, the next one of each client at the response to its last."""
    before = {name: cpu_seconds(process) for name, process in target.processes.items()}
    method = "POST" if target.body else "GET"
    with resources.as_file(resources.files("service.benchmark") / "wrk.lua") as script:
        command = [require_wrk(), "-t1", f"-c{clients}", f"-d{seconds}s", f"--timeout={RESPONSE_TIMEOUT}s"]
        command += [f"--script={Path(script)}", f"http://127.0.0.1:{target.port}", "--"]
        command += [method, target.path, target.body, str(first_seed)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = json.loads(output.splitlines()[-1])
    responses = max(found["responses"], 1)
    cpu_ms = {name: 1000 * (cpu_seconds(id_) - before[name]) / responses for name, id_ in target.processes.items()}
    return Load(found["responses"] / found["seconds"], found["p50_ms"], found["p99_ms"], found["failed"], cpu_ms)
