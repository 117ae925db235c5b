"""Metrics of what all gateways share, read from Redis at every scrape: queue, workers, jobs, cache.

Every gateway tells the same, so a query takes their maximum, not their sum. While Redis does not answer there are none
of them, but for ``creps_redis_up``: a figure of a moment ago would look like one of now.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from service.gateway.services import Services
from service.queue import WORKER_STATES

PATIENCE = 3.0
"""Seconds that Redis may take. Prometheus waits 10 s for an answer by default."""


async def shared_metrics(services: Services) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()  # of this scrape alone: two at once do not disturb each other
    registry.register(_Read([*await _families(services)]))
    return generate_latest(registry)


class _Read(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


async def _families(services: Services) -> list[Metric]:
    try:
        async with asyncio.timeout(PATIENCE):
            found = await _look(services)
    except (RedisError, TimeoutError):
        return [_gauge("creps_redis_up", "Whether Redis answers this gateway.", 0)]
    return [_gauge("creps_redis_up", "Whether Redis answers this gateway.", 1), *found]


async def _look(services: Services) -> list[Metric]:
    states = Counter(worker.state for worker in await services.workers.look())
    workers = {state: states[state] for state in WORKER_STATES}
    depths, ages = await services.client.depths(), await services.client.ages()
    return [
        _gauges("creps_workers", "Live workers.", "state", workers),
        _gauges("creps_queue_depth", "Requests waiting and running.", "stream", depths),
        _gauges("creps_queue_oldest_seconds", "Age of the oldest of them, 0 where there is none.", "stream", ages),
        _gauge("creps_queue_limit", "Pictures that may wait and run before clients are refused.",
               services.settings.queue_limit),
        _gauges("creps_jobs", "Jobs, ended ones until they are removed.", "state", await services.jobs.counts()),
        _gauges("creps_cache_bytes", "Bytes that a cache holds, over all gateways.", "cache",
                {"pictures": await services.cache.store.held()}),
    ]  # fmt: skip


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _gauges(name: str, meaning: str, label: str, values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
