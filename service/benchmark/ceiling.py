"""What the service costs for each image, beside LitServe: renderers that only wait, encoders that do nothing.

Every request is for another image, so that nothing comes from a cache. The servers take turns and are restarted for
each round, as in comparison.py.
"""

import os
import statistics
from collections.abc import Mapping, Sequence
from itertools import count

from service.benchmark.litserve_process import require_litserve, running_litserve
from service.benchmark.processes import running_service
from service.benchmark.report import Report, Row
from service.benchmark.wrk import Load, Target, measure_load, require_wrk
from service.models.catalog import DEMO_NAME

CLIENTS = (1, 16, 64, 256)

RENDER_MS = (0.0, 0.4)
"""Milliseconds that a renderer takes for each image: nothing, and a GPU's time for one of 512×512."""

SIDE = 512

ROUNDS, SECONDS = 3, 3

OURS, LITSERVE = "CREPS Serve", "LitServe"

SEEDS = 1 << 20
"""Seeds between the first ones of two turns. There are 2³², and no turn takes so many."""

Turns = Mapping[tuple[int, str], list[Load]]
"""By number of clients and server."""


def measure() -> Report:
    """Compare the servers. Raises InputError if LitServe or wrk is not installed, or a server did not start."""
    require_litserve("ceiling")
    require_wrk()
    seeds = count(step=SEEDS)
    rows: list[Row] = []
    for render_ms in RENDER_MS:
        turns: Turns = {(n, name): [] for n in CLIENTS for name in (LITSERVE, OURS)}
        for number in range(ROUNDS):
            _play_round(turns, number, render_ms, seeds)
        rows += [_row(key, render_ms, loads, turns[key[0], LITSERVE]) for key, loads in turns.items()]
    title = f"images that take no time, or {RENDER_MS[-1]} ms; {ROUNDS} rounds of {SECONDS} s, {os.cpu_count()} cores"
    return Report(title, rows)


def _play_round(
    turns: Mapping[tuple[int, str], list[Load]], number: int, render_ms: float, seeds: "count[int]"
) -> None:
    """One turn of each server for each number of clients. The order alternates."""
    seconds = str(render_ms / 1000)
    worker = ("service.benchmark.null_worker", seconds)
    with running_litserve(seconds) as litserve, running_service(workers=1, worker=worker) as service:
        path = f"/v1/images/{DEMO_NAME}/%d.jpeg?width={SIDE}&height={SIDE}"
        body = f'{{"seed": %d, "width": {SIDE}, "height": {SIDE}}}'
        ours = Target(service.port, path, service.processes)
        theirs = Target(litserve.port, "/predict", {"all": litserve.pid}, body)
        for target in (ours, theirs):
            measure_load(target, CLIENTS[1], 1, next(seeds))
        for clients in CLIENTS:
            for name in (OURS, LITSERVE) if number % 2 == 0 else (LITSERVE, OURS):
                if name == OURS:
                    litserve.pause()
                target = ours if name == OURS else theirs
                turns[clients, name].append(measure_load(target, clients, SECONDS, next(seeds)))
                litserve.resume()


def _row(key: tuple[int, str], render_ms: float, loads: Sequence[Load], litserve: Sequence[Load]) -> Row:
    clients, name = key
    by_process = {process: statistics.median(load.cpu_ms[process] for load in loads) for process in loads[0].cpu_ms}
    cpu = {f"{process} ms": milliseconds for process, milliseconds in by_process.items()} if name == OURS else {}
    return {
        "": f"{render_ms} ms, {clients} clients, {name}",
        "images/s": statistics.median(load.rate for load in loads),
        "ratio": statistics.median(load.rate / other.rate for load, other in zip(loads, litserve, strict=True)),
        "median ms": statistics.median(load.p50_ms for load in loads),
        "p99 ms": statistics.median(load.p99_ms for load in loads),
        "failed": sum(load.failed for load in loads),
        "CPU ms": statistics.median(sum(load.cpu_ms.values()) for load in loads),
        **cpu,
    }
