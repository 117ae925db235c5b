"""The same pictures from LitServe, with the same renderer, encoder and batches.

One runs after the other: LitServe's processes look for requests without a pause, which costs whoever runs beside them.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec

from model.errors import InputError
from service.benchmark.clients import Request, ask_all
from service.benchmark.pictures import SIZE, WARM_UP, requests_of
from service.benchmark.processes import START_SECONDS, running_service

CLIENTS = (1, 16, 64)


@dataclass(frozen=True)
class Rates:
    """Pictures a second, and the median and 99th percentile of what a client waited, in milliseconds."""

    rate: float
    median_ms: float
    slowest_ms: float


@dataclass(frozen=True)
class ComparisonReport:
    """What was measured, by the number of clients."""

    pictures: int
    ours: dict[int, Rates]
    litserve: dict[int, Rates]

    def __str__(self) -> str:
        lines = [
            f"{self.pictures} pictures of {SIZE}×{SIZE} as JPEG for each line, {os.cpu_count()} cores",
            "clients               pictures/s  median ms  99th percentile ms",
        ]
        for clients in self.ours:
            for name, found in (("CREPS Serve", self.ours[clients]), ("LitServe", self.litserve[clients])):
                lines.append(
                    f"{clients:7}  {name:11} {found.rate:12.2f}  {found.median_ms:9.1f}  {found.slowest_ms:18.1f}"
                )
        return "\n".join(lines)


def measure(pictures: int) -> ComparisonReport:
    """The demo network's pictures, every one asked for once. Progress goes to stderr.

    Raises:
        InputError: LitServe is not installed, or one of both did not start.
    """
    if find_spec("litserve") is None:
        raise InputError("parts", "comparison needs LitServe: pip install litserve")
    with running_service(workers=1) as service:
        ours = _measure(service.port, requests_of, pictures, "CREPS Serve")
    with _running_litserve() as port:
        theirs = _measure(port, _litserve_requests, pictures, "LitServe")
    return ComparisonReport(pictures, ours, theirs)


def _measure(port: int, requests: Callable[[range], list[Request]], pictures: int, name: str) -> dict[int, Rates]:
    ask_all(port, requests(range(WARM_UP)), 1, "warming up")
    seeds, found = range(WARM_UP, WARM_UP + pictures), {}
    for clients in CLIENTS:
        seconds, answers = ask_all(port, requests(seeds), clients, f"{name}, {clients} clients")
        waits = [answer.milliseconds for answer in answers]
        found[clients] = Rates(pictures / seconds, statistics.median(waits), statistics.quantiles(waits, n=100)[98])
        seeds = range(seeds.stop, seeds.stop + pictures)  # seeds that it has not drawn
    return found


def _litserve_requests(seeds: range) -> list[Request]:
    return [Request("/predict", json.dumps({"seed": seed, "width": SIZE, "height": SIZE})) for seed in seeds]


@contextmanager
def _running_litserve() -> Iterator[int]:
    """Its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "service.benchmark.litserve_server", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:  # noqa: S603
        try:
            _wait_until_healthy(port, process)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers outlive it otherwise


def _wait_until_healthy(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise InputError("benchmark", "LitServe did not start: python -m service.benchmark.litserve_server PORT tells why")
