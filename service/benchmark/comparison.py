"""The same pictures from LitServe, with the same renderer, encoder and batches.

They take turns and are started anew for each round, so that a machine whose speed drifts favours neither. As far as it
does nevertheless, the time in which nothing is rendered tells what the service around the renderer costs. LitServe is
held while it is not its turn: its processes look for requests without a pause, at the cost of whoever runs beside them.
Ours sleep until they are asked.
"""

import json
import math
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
from service.settings import Settings

CLIENTS = (1, 16, 64)

OURS, LITSERVE = "CREPS Serve", "LitServe"

ROUNDS = 6
"""Turns of each for a number of clients. Who begins changes with every round."""


@dataclass(frozen=True)
class Rates:
    """What clients got.

    Attributes:
        rounds: pictures a second in each round.
        idle_ms: milliseconds of each picture in which nothing was rendered, the median of all rounds.
        median_ms: of what a client waited, in milliseconds.
        slowest_ms: the 99th percentile of it.
    """

    rounds: tuple[float, ...]
    idle_ms: float
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
            "clients               pictures/s (from, to)   not rendering ms  median ms  99th percentile ms",
        ]
        for clients, ours in self.ours.items():
            theirs = self.litserve[clients]
            for name, found in ((OURS, ours), (LITSERVE, theirs)):
                low, middle, high = min(found.rounds), statistics.median(found.rounds), max(found.rounds)
                lines.append(
                    f"{clients:7}  {name:11} {middle:12.2f} ({low:5.2f}, {high:5.2f}) {found.idle_ms:18.2f}"
                    f" {found.median_ms:10.1f}  {found.slowest_ms:18.1f}"
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


@dataclass(frozen=True)
class _Turn:
    rate: float
    idle_ms: float
    waits_ms: list[float]


def measure(pictures: int) -> ComparisonReport:
    """The demo network's pictures, every one asked for once. Progress goes to stderr.

    Raises:
        InputError: LitServe is not installed, or one of both did not start.
    """
    if find_spec("litserve") is None:
        raise InputError("parts", "comparison needs LitServe: pip install litserve")
    seeds = count(step=WARM_UP + pictures)  # for each turn some that have not been drawn
    turns: dict[tuple[str, int], list[_Turn]] = {}
    for number in range(ROUNDS):
        with _running_litserve() as litserve, running_service(workers=1) as service:
            ours = _Server(OURS, service.port, requests_of, nullcontext)
            servers = (ours, litserve) if number % 2 == 0 else (litserve, ours)
            for clients in CLIENTS:
                for server in servers:
                    what = f"{server.name}, {clients} clients, round {number + 1} of {ROUNDS}"
                    turn = _take_turn(server, pictures, clients, next(seeds), what)
                    turns.setdefault((server.name, clients), []).append(turn)
    return ComparisonReport(
        pictures,
        {clients: _rates(turns[OURS, clients]) for clients in CLIENTS},
        {clients: _rates(turns[LITSERVE, clients]) for clients in CLIENTS},
    )


def _take_turn(server: _Server, pictures: int, clients: int, seed: int, what: str) -> _Turn:
    with server.turn():
        ask_all(server.port, server.requests(range(seed, seed + WARM_UP)), 1, "warming up")
        fresh = server.requests(range(seed + WARM_UP, seed + WARM_UP + pictures))
        seconds, answers = ask_all(server.port, fresh, clients, what)
    # All pictures of a batch tell the same time. Another batch may tell it, too, since it is rounded.
    told = Counter(float(re.findall(r"render;dur=([\d.]+)", answer.timing)[0]) for answer in answers)
    batch = min(clients, Settings.model_fields["batch_limit"].default)
    idle_ms = (1000 * seconds - sum(render * math.ceil(n / batch) for render, n in told.items())) / pictures
    return _Turn(pictures / seconds, idle_ms, [answer.milliseconds for answer in answers])


def _rates(turns: Sequence[_Turn]) -> Rates:
    waits = [wait for turn in turns for wait in turn.waits_ms]
    rounds, idle_ms = tuple(turn.rate for turn in turns), statistics.median(turn.idle_ms for turn in turns)
    return Rates(rounds, idle_ms, statistics.median(waits), statistics.quantiles(waits, n=100)[98])


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
            yield _Server(LITSERVE, port, _litserve_requests, partial(_awake, process.pid))
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
