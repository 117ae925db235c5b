"""Whether the thread of a worker that launches kernels waits for the rest of the worker: simulated launches, timed."""

import os
import statistics
import tempfile
from itertools import count
from pathlib import Path

from service.benchmark.ceiling import SEEDS, SIDE
from service.benchmark.processes import running_service
from service.benchmark.report import Report, Row
from service.benchmark.wrk import Target, measure_load, require_wrk
from service.models.catalog import DEMO_NAME

CLIENTS = (1, 8, 64)
"""With one client, nothing but the launches happens in the worker while they last."""

GPU_SECONDS = 0.0004
"""For each image, after its launches."""

ROUNDS, SECONDS = 3, 3


def measure() -> Report:
    """Time the launches of batches. Raises InputError if wrk is not installed, or a server did not start."""
    require_wrk()
    seeds = count(step=SEEDS)
    rounds = [[_measure(clients, next(seeds)) for clients in CLIENTS] for _ in range(ROUNDS)]
    rows: list[Row] = []
    for clients, found in zip(CLIENTS, zip(*rounds, strict=True), strict=True):
        row: Row = {"": f"{clients} clients"}
        rows.append(row | {name: statistics.median(values[name] for values in found) for name in found[0]})
    cores = os.cpu_count()
    return Report(f"launches of a batch, then {1000 * GPU_SECONDS} ms an image; {ROUNDS} rounds, {cores} cores", rows)


def _measure(clients: int, first_seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "launches")
        worker = ("service.benchmark.null_worker", str(GPU_SECONDS), "--launches", str(log))
        with running_service(workers=1, worker=worker) as service:
            path = f"/v1/images/{DEMO_NAME}/%d.jpeg?width={SIDE}&height={SIDE}"
            load = measure_load(Target(service.port, path, service.processes), clients, SECONDS, first_seed)
        milliseconds = sorted(map(float, log.read_text().split()))
    at = {f"{percent} % ms": milliseconds[len(milliseconds) * percent // 100] for percent in (50, 90, 99)}
    return {"images/s": load.rate, "batches": len(milliseconds), **at, "mean ms": statistics.fmean(milliseconds)}
