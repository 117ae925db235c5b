"""Comparison with LitServe on the same images, renderer, encoder and batches.

The servers take turns and are restarted for each round, so that drifts in the machine's speed affect both. Nevertheless
it drifts; the time without rendering shows the cost of the service around the renderer.
"""

import json
import math
import os
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from service.benchmark.clients import Request, median_and_p99, send_all
from service.benchmark.images import SIZE, WARM_UP, requests_of
from service.benchmark.litserve_process import require_litserve, running_litserve
from service.benchmark.processes import running_service
from service.benchmark.report import Report, Row
from service.worker.worker import CPU_BATCH

CLIENTS = (1, 16, 64)

OURS, LITSERVE = "CREPS Serve", "LitServe"

ROUNDS = 6
"""Turns of each server for each number of clients. The order alternates."""


@dataclass(frozen=True)
class _Turn:
    """Images a second, milliseconds without rendering for each image, and latencies in milliseconds."""

    rate: float
    idle_ms: float
    latencies: list[float]


def measure(images: int) -> Report:
    """Compare the servers on images of the demo network, each of which is requested once. Raises InputError if LitServe
    is not installed, or a server did not start."""
    require_litserve("comparison")
    seeds = count(step=WARM_UP + images)  # no image is requested twice
    turns: dict[tuple[str, int], list[_Turn]] = {(name, n): [] for n in CLIENTS for name in (OURS, LITSERVE)}
    for number in range(ROUNDS):
        with running_litserve() as litserve, running_service(workers=1) as service:
            servers = {OURS: (service.port, requests_of), LITSERVE: (litserve.port, _litserve_requests)}
            for clients in CLIENTS:
                for name in (OURS, LITSERVE) if number % 2 == 0 else (LITSERVE, OURS):
                    litserve.resume() if name == LITSERVE else litserve.pause()
                    task = f"{name}, {clients} clients, round {number + 1} of {ROUNDS}"
                    turns[name, clients].append(_take_turn(*servers[name], images, clients, next(seeds), task))
    rows = [_row(name, clients, found, turns[LITSERVE, clients]) for (name, clients), found in turns.items()]
    title = f"{images} images of {SIZE}×{SIZE} as JPEG in each of {ROUNDS} rounds, {os.cpu_count()} cores"
    return Report(title, rows)


def _take_turn(
    port: int, requests: Callable[[range], list[Request]], images: int, clients: int, seed: int, task: str
) -> _Turn:
    send_all(port, requests(range(seed, seed + WARM_UP)), 1, "warming up")
    fresh = requests(range(seed + WARM_UP, seed + WARM_UP + images))
    seconds, timings = send_all(port, fresh, clients, task)
    # The images of a batch report the same time, and so may those of another batch, since it is rounded.
    reported = Counter(timing.server["render"] for timing in timings)
    batch = min(clients, CPU_BATCH)
    rendering_ms = sum(render * math.ceil(n / batch) for render, n in reported.items())
    return _Turn(images / seconds, (1000 * seconds - rendering_ms) / images, [timing.latency for timing in timings])


def _row(name: str, clients: int, turns: list[_Turn], litserve: list[_Turn]) -> Row:
    rates = [turn.rate for turn in turns]
    return {
        "": f"{clients} clients, {name}",
        "images/s": statistics.median(rates),
        "min": min(rates),
        "max": max(rates),
        "ratio": statistics.median(turn.rate / other.rate for turn, other in zip(turns, litserve, strict=True)),
        "not rendering ms": statistics.median(turn.idle_ms for turn in turns),
        **median_and_p99([latency for turn in turns for latency in turn.latencies]),
    }


def _litserve_requests(seeds: range) -> list[Request]:
    return [Request("/predict", json.dumps({"seed": seed, "width": SIZE, "height": SIZE})) for seed in seeds]
