"""Several seeds in one request, compared with one request for each, and the small images of a slider."""

import json
import os
import statistics

from model.checkpoint import Checkpoint
from service.benchmark.clients import Request, median_and_p99, send_all
from service.benchmark.images import requests_of
from service.benchmark.processes import RunningService, running_service
from service.benchmark.report import Report, Row
from service.models.catalog import DEMO, DEMO_NAME

SEEDS, CLIENTS, ROUNDS = 64, 16, 5

SIDE = 64

SLIDER_SIDES, SLIDER_STEPS = (64, 128, 256), 40
"""Sides of the explorer page's first picture of a view, and positions of the slider."""


def measure() -> Report:
    """The ways to get SEEDS images of the demo network take turns, each with new seeds. Medians of ROUNDS."""
    ways = ("one request", "one client", f"{CLIENTS} clients")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with running_service(workers=1) as service:
        send_all(service.port, requests_of(range(2**20, 2**20 + 4)), 1, "warming up")
        for number in range(ROUNDS * len(ways)):
            way, first = ways[number % len(ways)], number * SEEDS
            seconds[way].append(_seeds(service, way, first))
        sliders = [_slider(service, side) for side in SLIDER_SIDES]
        peaks = service.peak_mib()
    together = seconds[ways[0]]
    rows: list[Row] = []
    for way, taken in seconds.items():
        ratio = statistics.median(each / one for each, one in zip(taken, together, strict=True))
        name = f"{SEEDS} seeds of {SIDE}×{SIDE}, {way}"
        rows.append({"": name, "seconds": statistics.median(taken), "of one request": ratio})
    title = f"{ROUNDS} rounds, {SLIDER_STEPS} positions of a slider, {os.cpu_count()} cores"
    return Report(title, [*rows, *sliders], peaks)


def _seeds(service: RunningService, way: str, first: int) -> float:
    """Seconds for the images of SEEDS seeds."""
    if way == "one request":
        body = json.dumps({"seeds": f"{first}-{first + SEEDS - 1}", "width": SIDE})
        return send_all(service.port, [Request("/v1/images", body)], 1, way)[0]
    bodies = [json.dumps({"seed": first + i, "width": SIDE}) for i in range(SEEDS)]
    clients = 1 if way == "one client" else CLIENTS
    return send_all(service.port, [Request("/v1/images", body) for body in bodies], clients, way)[0]


def _slider(service: RunningService, side: int) -> Row:
    """One image after another along a step in w."""
    step = [1.0, *[0.0] * (Checkpoint.open(DEMO).config.w_dim - 1)]
    requests = []
    for position in range(SLIDER_STEPS):
        edits = [{"direction": step, "amount": 6 * position / SLIDER_STEPS - 3}]
        body = {"model": DEMO_NAME, "seed": 2, "edits": edits, "width": side, "format": "webp"}
        requests.append(Request("/v1/images", json.dumps(body)))
    _, timings = send_all(service.port, requests, 1, "slider")
    render = statistics.median(timing.server["render"] for timing in timings)
    latency = median_and_p99([timing.latency for timing in timings])
    row: Row = {"": f"a slider's image of {side}×{side}", "seconds": "", "of one request": "", "render ms": render}
    return row | latency
