"""Concurrent HTTP clients, each of which sends its next request when it has the response to the last."""

import re
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection

from tqdm import tqdm

from model.errors import InputError

TIMEOUT = 120.0


@dataclass(frozen=True)
class Request:
    """A GET, or a POST if there is a JSON body."""

    path: str
    body: str | None = None


@dataclass(frozen=True)
class Timing:
    """Latency of a response, and the durations of its header Server-Timing, in milliseconds."""

    latency: float
    server: dict[str, float]


def send_all(port: int, requests: Sequence[Request], clients: int, task: str) -> tuple[float, list[Timing]]:
    """The seconds that all requests took, and their timings. Raises InputError if a response was not 200."""

    def send_some(part: Sequence[Request]) -> list[Timing]:
        connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        timings = []
        for request in part:
            timings.append(_send(connection, request))
            bar.update()
        connection.close()
        return timings

    with (
        tqdm(total=len(requests), desc=task, unit="request", leave=False, delay=2, disable=None) as bar,
        ThreadPoolExecutor(clients) as pool,
    ):
        began = time.perf_counter()
        timings = list(pool.map(send_some, (requests[i::clients] for i in range(clients))))
        seconds = time.perf_counter() - began
    return seconds, [timing for part in timings for timing in part]


def median_and_p99(latencies: Sequence[float]) -> dict[str, float]:
    """Columns of a report: the median and the 99th percentile."""
    return {"median ms": statistics.median(latencies), "p99 ms": statistics.quantiles(latencies, n=100)[98]}


def _send(connection: HTTPConnection, request: Request) -> Timing:
    began = time.perf_counter()
    method, headers = ("GET", {}) if request.body is None else ("POST", {"Content-Type": "application/json"})
    connection.request(method, request.path, request.body, headers)
    response = connection.getresponse()
    content = response.read()
    latency = 1000 * (time.perf_counter() - began)
    if response.status != 200:
        raise InputError("benchmark", f"the server responded with {response.status}: {content[:200]!r}")
    server = re.findall(r"(\w+);dur=([\d.]+)", response.getheader("Server-Timing", ""))
    return Timing(latency, {name: float(milliseconds) for name, milliseconds in server})
