"""Prometheus metrics of a gateway process, which serves them at ``/metrics``.

Those of ``service/gateway/redis_metrics.py`` are read at each scrape. Workers have worker_metrics.py.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.runtime.metrics import SECONDS

HTTP_REQUESTS = Counter("creps_http_requests", "HTTP requests answered.", ["route", "method", "status"])
HTTP_DURATION = Histogram(
    "creps_http_request_duration_seconds",
    "From an HTTP request to the beginning of its answer.",
    ["route"],
    buckets=SECONDS,
)

GATEWAY_RESTARTS = Counter("creps_gateway_restarts", "Restarts of a gateway's processes that died, if it has several.")

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
