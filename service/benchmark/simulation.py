"""A simulation of gateways, Redis servers, image caches, workers and their network under clients that never pause.

Every process works on one image at a time, for as long as the processor time that was measured for it. What is missing:
other traffic, failures, and that batches make an image cheaper the more images wait.
"""

import random
import statistics
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

Steps = Generator[simpy.Event, Any, None]

GATEWAYS_PER_HOST = 8
"""Gateway processes that share a network link."""


@dataclass(frozen=True)
class Cost:
    """Processor seconds for an image: a part for each, and a part for each byte of its file."""

    image: float
    byte: float = 0.0

    def of(self, image_bytes: int) -> float:
        return self.image + self.byte * image_bytes


@dataclass(frozen=True)
class Costs:
    """What an image that is not cached costs each process, and Redis' traffic for it.

    Attributes:
        client: of the load generator, where it shares the processors.
        redis_commands: commands of the queue's Redis.
        redis_bytes: read and written by that Redis, without the image, which it reads and writes once.
    """

    gateway: Cost
    redis: Cost
    cache: Cost
    worker: Cost
    client: Cost
    redis_commands: float
    redis_bytes: float


@dataclass(frozen=True)
class Deployment:
    """A service, and the images that are requested from it.

    Attributes:
        workers: processes with a GPU each, which renders an image in ``render_seconds``.
        redis: queues, each in a Redis of its own with its share of the models and workers.
        caches: image caches.
        past_redis: whether workers send images to gateways directly. The service cannot do this yet.
        gigabits: of a host's link, in each direction. Every Redis, cache and worker has a host of its own.
        cores: of the one machine that all processes and clients share; None if each process has its own.
        slowdown: by which its processors are slower than measured, because others use them.
    """

    workers: int
    gateways: int
    clients: int
    redis: int = 1
    caches: int = 1
    image_bytes: int = 60_000
    render_seconds: float = 0.0004
    batch: int = 8
    past_redis: bool = False
    gigabits: float = 25.0
    cores: int | None = None
    slowdown: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """Images a second, seconds that clients wait, and the busy fraction of the busiest part of each kind."""

    rate: float
    median: float
    p99: float
    busy: dict[str, float]

    @property
    def limit(self) -> str:
        """The kind of part that limits the rate."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(costs: Costs, deployment: Deployment, images: int, seed: int = 0) -> Outcome:
    """Runs the deployment for so many images, after a warm-up in which each client gets two."""
    return _Simulation(costs, deployment, seed).run(images)


class _Part:
    """A process or a link: one thing at a time, in the order of arrival."""

    def __init__(self, environment: simpy.Environment, cores: simpy.Resource | None = None) -> None:
        self._environment = environment
        self._turns = simpy.Resource(environment)
        self._cores = cores
        self.busy_seconds = 0.0

    def work(self, seconds: float) -> Steps:
        with self._turns.request() as turn:
            yield turn
            if self._cores is None:
                yield self._environment.timeout(seconds)
            else:
                with self._cores.request() as core:
                    yield core
                    yield self._environment.timeout(seconds)
        self.busy_seconds += seconds


class _Simulation:
    def __init__(self, costs: Costs, deployment: Deployment, seed: int) -> None:
        self._random = random.Random(seed)
        self._deployment = deployment
        self._costs = costs
        self._environment = environment = simpy.Environment()
        cores = None if deployment.cores is None else simpy.Resource(environment, deployment.cores)
        hosts = -(-deployment.gateways // GATEWAYS_PER_HOST)
        self._parts = {
            "gateway": [_Part(environment, cores) for _ in range(deployment.gateways)],
            "Redis": [_Part(environment, cores) for _ in range(deployment.redis)],
            "cache": [_Part(environment, cores) for _ in range(deployment.caches)],
            "worker": [_Part(environment, cores) for _ in range(deployment.workers)],
            "GPU": [_Part(environment) for _ in range(deployment.workers)],
            "gateway's network": [_Part(environment) for _ in range(hosts)],
            "Redis' network": [_Part(environment) for _ in range(deployment.redis)],
        }
        self._client = _Part(environment, cores)
        self._queues = [simpy.Store(environment) for _ in range(deployment.redis)]
        self._waits: list[float] = []
        for number in range(deployment.workers):
            environment.process(self._render(number))
        for number in range(deployment.clients):
            environment.process(self._request_for_ever(number))

    def run(self, images: int) -> Outcome:
        self._run_for(2 * self._deployment.clients)
        for parts in self._parts.values():
            for part in parts:
                part.busy_seconds = 0.0
        seconds = self._run_for(images)
        percentiles = statistics.quantiles(self._waits, n=100)
        busy = {name: max(part.busy_seconds for part in parts) / seconds for name, parts in self._parts.items()}
        return Outcome(images / seconds, percentiles[49], percentiles[98], busy)

    def _run_for(self, images: int) -> float:
        """Returns the seconds that the next ``images`` took."""
        began = self._environment.now
        self._waits.clear()
        while len(self._waits) < images:
            self._environment.step()
        return float(self._environment.now - began)

    def _compute(self, name: str, number: int, cost: float) -> Steps:
        """Work whose times scatter around ``cost``."""
        seconds = self._random.expovariate(1 / cost) if cost else 0.0
        return self._parts[name][number].work(seconds * self._deployment.slowdown)

    def _send(self, name: str, number: int, size: float) -> Steps:
        return self._parts[name][number].work(8 * size / (self._deployment.gigabits * 1e9))

    def _request_for_ever(self, number: int) -> Steps:
        """A client, whose connection stays with one gateway process."""
        deployment, costs, size = self._deployment, self._costs, self._deployment.image_bytes
        gateway = number % deployment.gateways
        # Without the image, Redis is read and written as for a file of no bytes.
        through_redis = 0 if deployment.past_redis else size
        gateway_cost, redis_cost, cache_cost = (
            costs.gateway.of(size),
            costs.redis.of(through_redis),
            costs.cache.of(size),
        )
        while True:
            redis, cache = self._random.randrange(deployment.redis), self._random.randrange(deployment.caches)
            began = self._environment.now
            yield from self._compute("gateway", gateway, gateway_cost / 2)
            yield from self._compute("cache", cache, cache_cost / 2)
            yield from self._compute("Redis", redis, redis_cost / 2)
            rendered = self._environment.event()
            yield self._queues[redis].put(rendered)
            yield rendered
            yield from self._send("Redis' network", redis, through_redis + costs.redis_bytes / 2)
            yield from self._compute("Redis", redis, redis_cost / 2)
            yield from self._compute("gateway", gateway, gateway_cost / 2)
            # To the client and to the cache.
            yield from self._send("gateway's network", gateway // GATEWAYS_PER_HOST, 2 * size)
            self._waits.append(self._environment.now - began)
            self._environment.process(self._compute("cache", cache, cache_cost / 2))
            if deployment.cores is not None:
                yield from self._client.work(costs.client.of(size) * deployment.slowdown)

    def _render(self, number: int) -> Steps:
        """A worker: renders what waits in its queue, up to a batch, and replies while it renders the next one."""
        deployment = self._deployment
        queue = self._queues[number % deployment.redis]
        while True:
            batch = [(yield queue.get())]
            while queue.items and len(batch) < deployment.batch:
                batch.append((yield queue.get()))
            yield from self._parts["GPU"][number].work(deployment.render_seconds * len(batch))
            self._environment.process(self._reply(number, batch))

    def _reply(self, number: int, batch: list[simpy.Event]) -> Steps:
        for rendered in batch:
            yield from self._compute("worker", number, self._costs.worker.of(self._deployment.image_bytes))
            rendered.succeed()
