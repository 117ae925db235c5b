"""``creps benchmark capacity``: what services of 1, 8 and 64 GPUs need, and what limits them.

A simulation of what :data:`COSTS` says, which was measured, or with ``--measure`` of what this machine measures now.
"""

import os
import resource
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from redis import Redis

from model.errors import InputError
from model.util.arguments import ArgumentParser
from service.benchmark.processes import RunningService, running_service
from service.benchmark.report import Report, Row
from service.benchmark.simulation import Cost, Costs, Deployment, simulate
from service.benchmark.wrk import Load, Target, measure_load, require_wrk
from service.models.catalog import DEMO_NAME

COSTS = Costs(
    gateway=Cost(782e-6, 1.28e-9),
    redis=Cost(112e-6, 0.67e-9),
    cache=Cost(38e-6, 0.17e-9),
    worker=Cost(369e-6, 0.03e-9),
    client=Cost(52e-6, 0.25e-9),
    redis_commands=8.7,
    redis_bytes=3349.0,
)
"""Measured on two busy cores of an AMD EPYC (BENCHMARKS.md, "Capacity")."""

GPUS = (1, 8, 64)

SIDE = 512

RENDER_SECONDS = 0.0004
"""A GPU's time for one image of 512×512."""

IMAGES = 8_000
"""Images of a simulation."""

CLIENTS_PER_GPU = 24
"""Three batches: one that is rendered, one that waits, and one on its way."""

MAX_BUSY = 0.7
"""Part of a process' time that a plan uses. Beyond it, waiting times grow fast."""

MEASURED_BYTES = (20_000, 100_000)
"""Two sizes of files tell what an image costs, and what a byte costs."""

MEASURED_CLIENTS = 128

ROUNDS, ROUND_SECONDS = 3, 3
"""The sizes take turns."""

CONFIRMED = Deployment(
    workers=1, gateways=2, clients=256, image_bytes=60_000, render_seconds=0.0, cores=os.cpu_count() or 1
)
"""A service that is not measured for the costs. ``--measure`` compares its simulation with the service itself."""

PROCESSES = ("gateway", "redis", "cache", "worker", "client")


def main(arguments: Sequence[str]) -> None:
    """Print the plan, with ``--measure`` of costs measured before. Raises InputError if wrk is not installed."""
    parser = ArgumentParser(prog="creps benchmark capacity", description="Plans services for 1, 8 and 64 GPUs.")
    add = parser.add_argument
    add("--measure", action="store_true", help="measure the costs of an image on this machine; needs wrk")
    add("--image-bytes", type=int, default=60_000, metavar="N", help="size of an image's file (default: 60000)")
    add("--gigabits", type=float, default=25.0, metavar="N", help="speed of a host's network (default: 25)")
    options = parser.parse_args(arguments)
    costs = COSTS
    if options.measure:
        require_wrk()
        costs, measured = measure_costs()
        print(f"{show_costs(costs)}\n\n{confirm(costs, measured)}\n")
    print(plan(costs, options.image_bytes, options.gigabits))


def plan(costs: Costs, image_bytes: int, gigabits: float) -> Report:
    """Services with one Redis and one cache, with as many as are needed, and with images that go past Redis."""
    rows = []
    for gpus in GPUS:
        single = Deployment(
            workers=gpus,
            gateways=_needed(gpus, costs.gateway.of(image_bytes)),
            clients=CLIENTS_PER_GPU * gpus,
            image_bytes=image_bytes,
            render_seconds=RENDER_SECONDS,
            gigabits=gigabits,
        )
        caches = _needed(gpus, costs.cache.of(image_bytes))
        sharded = replace(single, redis=_needed_redis(gpus, costs.redis.of(image_bytes)), caches=caches)
        past = replace(sharded, past_redis=True, redis=_needed_redis(gpus, costs.redis.of(0)))
        rows += [_plan_row(costs, deployment) for deployment in dict.fromkeys((single, sharded, past))]
    title = (
        f"images of {SIDE}×{SIDE} and {image_bytes} bytes, {1000 * RENDER_SECONDS} ms of a GPU each, {gigabits} Gbit/s"
    )
    return Report(title, rows)


def _needed(gpus: int, cost: float) -> int:
    """Processes for images that cost each of them ``cost`` seconds."""
    return -int(-gpus * cost // (RENDER_SECONDS * MAX_BUSY))


def _needed_redis(gpus: int, cost: float) -> int:
    """As :func:`_needed`, but each has the same number of workers."""
    return next(count for count in range(1, gpus + 1) if gpus % count == 0 and count >= min(_needed(gpus, cost), gpus))


def _plan_row(costs: Costs, deployment: Deployment) -> Row:
    outcome = simulate(costs, deployment, IMAGES)
    size = deployment.image_bytes
    through_redis = 0 if deployment.past_redis else 2 * size
    parts = costs.gateway.of(size), costs.worker.of(size), costs.redis.of(through_redis // 2), costs.cache.of(size)
    return {
        "": f"{deployment.workers} GPU{'s' if deployment.workers > 1 else ''}"
        + (", images past Redis" if deployment.past_redis else ""),
        "gateways": str(deployment.gateways),
        "Redis": str(deployment.redis),
        "caches": str(deployment.caches),
        "images/s": outcome.rate,
        "Mpixel/s": outcome.rate * SIDE**2 / 1e6,
        "cores": outcome.rate * sum(parts),
        "commands/s": outcome.rate * costs.redis_commands / deployment.redis,
        "MB/s": outcome.rate * (through_redis + costs.redis_bytes) / 1e6 / deployment.redis,
        "limit": f"{outcome.limit} {min(outcome.busy[outcome.limit], 1):.0%}",
    }


@dataclass(frozen=True)
class _Measured:
    """A load, processor seconds of all processes of each kind for an image, and Redis' commands and bytes for it."""

    load: Load
    seconds: Mapping[str, float]
    redis_commands: float
    redis_bytes: float


def measure_costs() -> tuple[Costs, _Measured]:
    """The costs on this machine, of one gateway and one worker that are busy. And CONFIRMED, in turn with them."""
    deployments = [Deployment(1, 1, MEASURED_CLIENTS, image_bytes=size) for size in MEASURED_BYTES]
    small, large, confirmed = _measure([*deployments, CONFIRMED])

    def median(measured: Sequence[_Measured], name: str) -> float:
        return statistics.median(found.seconds[name] for found in measured)

    fitted = {name: _fit(median(small, name), median(large, name)) for name in PROCESSES}
    commands = statistics.median(found.redis_commands for found in small)
    traffic = statistics.median(found.redis_bytes for found in small)
    costs = Costs(**fitted, redis_commands=commands, redis_bytes=traffic - 2 * MEASURED_BYTES[0])
    return costs, sorted(confirmed, key=lambda found: sum(found.seconds.values()))[len(confirmed) // 2]


def _fit(small: float, large: float) -> Cost:
    byte = max(large - small, 0.0) / (MEASURED_BYTES[1] - MEASURED_BYTES[0])
    return Cost(max(small - byte * MEASURED_BYTES[0], 0.0), byte)


def _measure(deployments: Sequence[Deployment]) -> list[list[_Measured]]:
    """Measures services that take turns, for ROUNDS rounds."""
    with ExitStack() as stack:
        services = [
            stack.enter_context(
                running_service(
                    deployment.workers,
                    worker=("service.benchmark.null_worker", "0", str(deployment.image_bytes)),
                    gateways=deployment.gateways,
                )
            )
            for deployment in deployments
        ]
        pairs = list(zip(services, deployments, strict=True))
        for service, deployment in pairs:
            _load(service, deployment, 0)
        rounds = [[_load(*pair, number << 20) for pair in pairs] for number in range(1, ROUNDS + 1)]
    return [list(measured) for measured in zip(*rounds, strict=True)]


def _load(service: RunningService, deployment: Deployment, first_seed: int) -> _Measured:
    target = Target(service.port, f"/v1/images/{DEMO_NAME}/%d.jpeg?width={SIDE}&height={SIDE}", service.processes)
    before, client = _traffic(service), _client_seconds()
    load = measure_load(target, deployment.clients, ROUND_SECONDS, first_seed)
    if not load.rate:
        raise InputError("benchmark", f"there was no response within {ROUND_SECONDS} s")
    images = load.rate * ROUND_SECONDS
    seconds = defaultdict[str, float](float, client=(_client_seconds() - client) / images)
    for name, milliseconds in load.cpu_ms.items():
        seconds[name.partition(" ")[0]] += milliseconds / 1000
    commands, traffic = ((after - start) / images for after, start in zip(_traffic(service), before, strict=True))
    return _Measured(load, seconds, commands, traffic)


def _traffic(service: RunningService) -> tuple[float, float]:
    """Commands that the queue's Redis has run, and bytes that it has read and written."""
    with Redis.from_url(service.redis_url) as redis:
        commands: Mapping[str, Mapping[str, float]] = redis.info("commandstats")
        stats: Mapping[str, float] = redis.info("stats")
    total = sum(command["calls"] for command in commands.values())
    return total, stats["total_net_input_bytes"] + stats["total_net_output_bytes"]


def _client_seconds() -> float:
    """Processor time of wrk, the only child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def confirm(costs: Costs, measured: _Measured) -> Report:
    """Compares the simulation of CONFIRMED with its measurement, at the share of the processors that it got."""
    cores = CONFIRMED.cores or 1
    share = measured.load.rate * sum(measured.seconds.values()) / cores
    simulated = simulate(costs, replace(CONFIRMED, slowdown=1 / share), IMAGES)
    modelled = {name: getattr(costs, name).of(CONFIRMED.image_bytes) for name in PROCESSES}
    rows: list[Row] = [
        {
            "": name,
            "images/s": rate,
            "median ms": median_ms,
            "CPU ms": 1000 * sum(seconds.values()),
            **{f"{process} ms": 1000 * seconds[process] for process in PROCESSES},
        }
        for name, rate, median_ms, seconds in (
            ("measured", measured.load.rate, measured.load.p50_ms, measured.seconds),
            ("simulated", simulated.rate, 1000 * simulated.median, modelled),
        )
    ]
    size = f"{CONFIRMED.gateways} gateways, {CONFIRMED.workers} worker, {CONFIRMED.clients} clients"
    title = f"{size} and {CONFIRMED.image_bytes} bytes on {cores} cores, of which they got {share:.0%}"
    return Report(title, rows)


def show_costs(costs: Costs) -> Report:
    """The costs as a table."""
    named = {name: getattr(costs, name) for name in PROCESSES}
    rows: list[Row] = [
        {"": name, "µs an image": 1e6 * cost.image, "µs more for 100 kB": 1e11 * cost.byte}
        for name, cost in named.items()
    ]
    traffic = f"{costs.redis_commands:.2f} commands, {costs.redis_bytes:.0f} bytes and the image twice"
    title = f"processor time at {MEASURED_CLIENTS} clients; Redis: {traffic}"
    return Report(title, rows)
