"""Prometheus metrics of each process. Gateways serve them at ``/metrics``, workers at their metrics port.

Those of ``service/gateway/redis_metrics.py`` and ``service/worker/gpu_metrics.py`` are read at each scrape.
"""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

LabelledMetric = TypeVar("LabelledMetric", Counter, Histogram)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Buckets from a tile on a GPU to a large image on a CPU."""

HTTP_REQUESTS = Counter("creps_http_requests", "HTTP requests answered.", ["route", "method", "status"])
HTTP_DURATION = Histogram(
    "creps_http_request_duration_seconds",
    "From an HTTP request to the beginning of its answer.",
    ["route"],
    buckets=_SECONDS,
)

GATEWAY_RESTARTS = Counter("creps_gateway_restarts", "Restarts of a gateway's processes that died, if it has several.")

QUEUE_WAIT = Histogram("creps_queue_wait_seconds", "From a request's submission to its rendering.", buckets=_SECONDS)
TILES = Counter(
    "creps_tiles",
    "Tiles of jobs: drawn (rendered), found in the store, failed (to be retried) or dropped with their job.",
    ["result"],
)

WEBHOOKS = Counter(
    "creps_webhooks",
    "Attempts to send a webhook: sent, retried (later) or failed (given up).",
    ["result"],
)

CACHE_REQUESTS = Counter(
    "creps_cache_requests",
    "Requests to a cache: hit, miss (rendered) or shared (rendered for another request that was in flight).",
    ["cache", "result"],
)

RENDER_BATCH_SIZE = Histogram(
    "creps_render_batch_size", "Requests rendered together.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
RENDER_DURATION = Histogram(
    "creps_render_duration_seconds", "Rendering of one batch.", ["model", "backend"], buckets=_SECONDS
)
RENDERED_PIXELS = Counter("creps_rendered_pixels", "Pixels rendered.", ["model"])
ENCODE_DURATION = Histogram("creps_encode_duration_seconds", "Encoding of one image.", ["format"], buckets=_SECONDS)

DROPPED_REQUESTS = Counter("creps_dropped_requests", "Requests dropped because no client waits for them.", ["reason"])
REDELIVERIES = Counter("creps_redeliveries", "Requests claimed from a worker that died.")
DEAD_LETTERS = Counter("creps_dead_letters", "Requests given up after repeated loss of their worker.")

MODEL_LOADED = Gauge("creps_model_loaded", "1 for each model that this worker holds.", ["model", "digest"])
MODEL_MEMORY = Gauge(
    "creps_model_memory_bytes",
    "Memory that each loaded model takes at most, its weights and kept lines, as it counts against CREPS_MODEL_BYTES.",
    ["model", "digest"],
)
MODEL_PRECISION = Gauge(
    "creps_model_precision_psnr_db",
    "Agreement of the device's arithmetic with fp64, measured when the model was loaded.",
    ["model", "digest", "arithmetic", "used"],
)
MODEL_LEVELS = Gauge(
    "creps_model_precision_levels",
    "Largest difference in that measurement, in levels of 255.",
    ["model", "digest", "arithmetic", "used"],
)
MODEL_LOAD_DURATION = Histogram("creps_model_load_duration_seconds", "Loading of a model.", buckets=_SECONDS)


@cache
def labelled(metric: LabelledMetric, *values: str) -> LabelledMetric:
    """The part of a metric that has these values of its labels. Looking it up by ``labels()`` takes 2 µs."""
    return metric.labels(*values)


def process_metrics() -> bytes:
    """This process' metrics as text.

    In one of several gateway processes they are the sums over all of them, including those that have ended, so that no
    counter ever falls. Metrics ``process_…`` have the label ``process`` instead.
    """
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # see service/gateway/process.py
    if folder is None:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)
    registry.register(_ProcessCollectors(Path(folder)))
    return generate_latest(registry)


class _ProcessCollectors(Collector):
    """Memory, processor time and open files of each process that has a file ``NAME.pid`` in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for file in sorted(self._folder.glob("*.pid")):
            for metric in ProcessCollector(pid=file.read_text, registry=None).collect():
                samples = [sample._replace(labels={"process": file.stem}) for sample in metric.samples]
                metric.samples = []
                merged.setdefault(metric.name, metric).samples += samples
        return merged.values()
