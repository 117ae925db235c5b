"""The same pictures from LitServe, with the same renderer, encoder and batches.

They take turns, so that a machine whose speed drifts favours neither. LitServe is held while it is not its turn: its
processes look for requests without a pause, which costs whoever runs beside them. Ours sleep until they are asked.
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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from importlib.util import find_spec
from itertools import count

from model.errors import InputError
from service.benchmark.clients import Request, ask_all
from service.benchmark.pictures import SIZE, WARM_UP, requests_of
from service.benchmark.processes import START_SECONDS, running_service

CLIENTS = (1, 16, 64)

ROUNDS = 12
"""Turns of each for a number of clients. Who begins changes with every round."""


@dataclass(frozen=True)
class Rates:
    """Pictures a second in each round, and the median and 99th percentile of all waits of a client in milliseconds."""

    rounds: tuple[float, ...]
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
            f"{self.pictures} pictures of {SIZE}×{SIZE} as JPEG a turn, {ROUNDS} turns each, {os.cpu_count()} cores",
            "clients               pictures/s (from, to)   median ms  99th percentile ms",
        ]
        for clients, ours in self.ours.items():
            theirs = self.litserve[clients]
            for name, found in (("CREPS Serve", ours), ("LitServe", theirs)):
                low, middle, high = min(found.rounds), statistics.median(found.rounds), max(found.rounds)
                lines.append(
                    f"{clients:7}  {name:11} {middle:12.2f} ({low:5.2f}, {high:5.2f}) {found.median_ms:10.1f}"
                    f"  {found.slowest_ms:18.1f}"
                )
            ratios = [ours / theirs for ours, theirs in zip(ours.rounds, theirs.rounds, strict=True)]
            lines.append(
                f"         ours by LitServe's, round by round: {statistics.median(ratios):.3f}"
                f" ({min(ratios):.3f}, {max(ratios):.3f})"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Server:
    """One of both: how it is asked for pictures, and the block within which it runs."""

    name: str
    port: int
    requests: Callable[[range], list[Request]]
    turn: Callable[[], AbstractContextManager[None]]


def measure(pictures: int) -> ComparisonReport:
    """The demo network's pictures, every one asked for once. Progress goes to stderr.

    Raises:
        InputError: LitServe is not installed, or one of both did not start.
    """
    if find_spec("litserve") is None:
        raise InputError("parts", "comparison needs LitServe: pip install litserve")
    with _running_litserve() as litserve, running_service(workers=1) as service:
        ours = _Server("CREPS Serve", service.port, requests_of, nullcontext)
        seeds = count(step=WARM_UP + pictures)  # for each round some that neither has drawn
        found = {clients: _take_turns((ours, litserve), pictures, clients, seeds) for clients in CLIENTS}
    return ComparisonReport(
        pictures,
        {clients: rates for clients, (rates, _) in found.items()},
        {clients: rates for clients, (_, rates) in found.items()},
    )


def _take_turns(servers: tuple[_Server, _Server], pictures: int, clients: int, seeds: "count[int]") -> list[Rates]:
    """What each server gives to so many clients."""
    rates: dict[str, list[float]] = {server.name: [] for server in servers}
    waits: dict[str, list[float]] = {server.name: [] for server in servers}
    for number, first in zip(range(ROUNDS), seeds, strict=False):
        for server in servers if number % 2 == 0 else reversed(servers):
            with server.turn():
                ask_all(server.port, server.requests(range(first, first + WARM_UP)), 1, "warming up")
                fresh = server.requests(range(first + WARM_UP, first + WARM_UP + pictures))
                what = f"{server.name}, {clients} clients, round {number + 1} of {ROUNDS}"
                seconds, answers = ask_all(server.port, fresh, clients, what)
            rates[server.name].append(pictures / seconds)
            waits[server.name] += [answer.milliseconds for answer in answers]
    return [
        Rates(tuple(rates[name]), statistics.median(waits[name]), statistics.quantiles(waits[name], n=100)[98])
        for name in rates
    ]


def _litserve_requests(seeds: range) -> list[Request]:
    return [Request("/predict", json.dumps({"seed": seed, "width": SIZE, "height": SIZE})) for seed in seeds]


@contextmanager
def _running_litserve() -> Iterator[_Server]:
    """Held, but for its turns."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "service.benchmark.litserve_server", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True) as process:  # noqa: S603
        try:
            _wait_until_healthy(port, process)
            os.killpg(process.pid, signal.SIGSTOP)
            yield _Server("LitServe", port, _litserve_requests, partial(_awake, process.pid))
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers outlive it otherwise


@contextmanager
def _awake(group: int) -> Iterator[None]:
    os.killpg(group, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGSTOP)


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
