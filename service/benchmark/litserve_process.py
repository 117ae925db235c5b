"""LitServe in processes of its own. It is stopped between its turns, because its processes poll for requests."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import httpx

from model.errors import InputError
from service.benchmark.processes import wait_until


@dataclass(frozen=True)
class RunningLitServe:
    """Its port, and the id of its first process, which is also that of the group."""

    port: int
    pid: int

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)


def require_litserve(part: str) -> None:
    """Raises InputError if LitServe is not installed."""
    if find_spec("litserve") is None:
        raise InputError("parts", f"{part} needs LitServe: pip install litserve")


@contextmanager
def running_litserve(*arguments: str) -> Iterator[RunningLitServe]:
    """LitServe on a free port; for ``arguments`` see litserve_server.py. Raises InputError if it did not start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "service.benchmark.litserve_server", str(port), *arguments]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:  # noqa: S603
        try:
            failure = "LitServe did not start; see python -m service.benchmark.litserve_server PORT"
            wait_until(lambda: process.poll() is not None or _is_healthy(port), failure)
            if process.poll() is not None:
                raise InputError("benchmark", failure)
            yield RunningLitServe(port, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers would survive SIGTERM


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False
