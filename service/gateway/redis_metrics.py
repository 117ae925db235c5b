"""Metrics of the queue, workers, jobs and cache, read from Redis at every scrape.

All gateways share them, so queries take the maximum over gateways, not the sum. While Redis does not answer, only
``creps_redis_up`` is there: old values would look like current ones.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from service.gateway.state import AppState
from service.queue.messages import WORKER_STATES

REDIS_TIMEOUT = 3.0
"""Seconds for all commands of a scrape. Prometheus waits 10 s for a response by default."""


class _Scrape(Collector):
    """The gauges of one scrape. A ``Gauge`` would be kept, and in one of several processes written to its file."""

    def __init__(self) -> None:
        self._gauges: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        return self._gauges

    def add(self, name: str, meaning: str, value: float) -> None:
        self._gauges.append(GaugeMetricFamily(name, meaning, value))

    def add_each(self, name: str, meaning: str, label: str, values: Mapping[Any, float]) -> None:
        gauge = GaugeMetricFamily(name, meaning, labels=[label])
        for value, number in values.items():
            gauge.add_metric([str(value)], number)
        self._gauges.append(gauge)


async def redis_metrics(app_state: AppState) -> bytes:
    """The metrics in the Prometheus text format."""
    scrape = _Scrape()
    answered = await _read(app_state, scrape)
    scrape.add("creps_redis_up", "Whether Redis answers this gateway.", float(answered))
    return generate_latest(scrape)


async def _read(app_state: AppState, scrape: _Scrape) -> bool:
    """Adds what Redis says, all or nothing. False if it does not answer."""
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            states = Counter(worker.state for worker in await app_state.workers.refresh())
            depths, ages = await app_state.client.depths(), await app_state.client.ages()
            depths["tiles"] += sum(job.tiles for job in (await app_state.jobs.waiting()).values())
            devices_lost = await app_state.client.devices_lost()
            jobs, cache_bytes = await app_state.jobs.counts(), await app_state.cache.used_bytes()
    except (RedisError, TimeoutError):
        return False
    scrape.add_each("creps_workers", "Live workers.", "state", {state: states[state] for state in WORKER_STATES})
    scrape.add_each("creps_queue_depth", "Requests waiting and running.", "stream", depths)
    scrape.add_each("creps_queue_oldest_seconds", "Age of the oldest of them, 0 where there is none.", "stream", ages)
    scrape.add("creps_devices_lost", "Workers that ended because their device failed.", devices_lost)
    meaning = "Images that may wait and run before clients are refused."
    scrape.add("creps_queue_limit", meaning, app_state.settings.queue_limit)
    scrape.add_each("creps_jobs", "Jobs, ended ones until they are removed.", "state", jobs)
    used = {} if cache_bytes is None else {"pictures": cache_bytes}
    scrape.add_each("creps_cache_bytes", "Memory that a cache's server uses.", "cache", used)
    return True
