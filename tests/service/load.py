"""Many clients at once: ``make load``. Responses must have the right bytes or be refusals; no process may grow.

A real gateway, a real worker with the demo network and a real Redis run as processes. Each client requests one image
after another, every second time one of a few popular ones. At the end this process renders all of them and compares the
bytes.
"""

import argparse
import asyncio
import hashlib
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from tqdm import tqdm

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.imaging.metadata import encode_image
from service.models.catalog import DEMO, DEMO_NAME
from tests.service.jobs.cluster import Cluster
from tests.service.waiting import LONG

SIDE, POPULAR = 128, 50
"""Side of the images; number of popular ones."""

CACHE_BYTES = 2 << 20
"""Small, so that it is full after the warm-up."""

WORKER = f"""
import sys
from kernels import line_cache
from service.cli import main

line_cache.MAX_BYTES = {64 << 20}
sys.exit(main())
"""
"""A worker whose line cache is full after the warm-up, too. By default it grows to a sixteenth of the memory."""

REFUSALS = frozenset({429, 503})
"""Statuses of an overloaded service."""

WARM_UP_SECONDS = 60.0
"""Longest warm-up before the measurement: the cache fills, and memory allocators grow."""

GROWTH = 0.05
"""By how much a process may grow from the end of the warm-up to the end."""


@dataclass
class Report:
    """What happened.

    Attributes:
        seconds: after the warm-up.
        images: number of different images to wait for, beyond the time if need be.
        statuses: how often each was answered; 0 where there was no answer.
        waits: seconds of each answer of 200 after the warm-up.
        digests: sha256 of the images by seed; several where they differed.
        memory: MiB of each process after the warm-up and at the end.
        wrong: what was not as it should be.
    """

    clients: int
    seconds: float
    images: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    digests: dict[int, set[str]] = field(default_factory=dict)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        answers = ", ".join(f"{count} × {status}" for status, count in sorted(self.statuses.items()))
        asked = f"{len(self.digests)} pictures of {SIDE}×{SIDE}"
        waits = statistics.quantiles(self.waits, n=100)
        memory = ", ".join(f"{name} {before:.0f} → {after:.0f}" for name, (before, after) in self.memory.items())
        return "\n".join(
            [
                f"{self.clients} clients for {self.seconds:.0f} s after a warm-up, {asked}: {answers}",
                f"{len(self.waits) / self.seconds:.1f} answers/s, {1000 * waits[49]:.0f} ms median, "
                f"{1000 * waits[98]:.0f} ms 99th percentile",
                f"memory in MiB: {memory}",
                f"{len(self.wrong)} wrong",
                *self.wrong,
            ]
        )


async def load(folder: Path, clients: int, seconds: float, images: int = 0) -> Report:
    """Runs the service in ``folder`` under load, then compares its responses."""
    report = Report(clients, seconds, images)
    worker = [sys.executable, "-c", WORKER, "worker", "--device", "cpu"]
    cluster = Cluster(folder, worker, {"CREPS_LOG_LEVEL": "warning", "CREPS_REQUEST_TIMEOUT": "600"}, CACHE_BYTES)
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with (
        cluster.running("redis", "cache", "gateway", "worker-1"),
        httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=600, limits=limits) as http,
        asyncio.TaskGroup() as tasks,
    ):
        warm = time.monotonic() + min(WARM_UP_SECONDS, seconds)
        tasks.create_task(_watch_memory(cluster, warm, report))
        for number in range(clients):
            tasks.create_task(_ask(http, warm, random.Random(number), number, report))
    await asyncio.to_thread(_compare, report)
    if unexpected := set(report.statuses) - {200} - REFUSALS:
        report.wrong.append(f"answers of {sorted(unexpected)}")
    for name, (before, after) in report.memory.items():
        if after > before * (1 + GROWTH):
            report.wrong.append(f"{name} has grown by {after / before - 1:.0%}")
    return report


async def _ask(http: httpx.AsyncClient, warm: float, chance: random.Random, number: int, report: Report) -> None:
    asked = 0
    end = warm + report.seconds
    while (began := time.monotonic()) < end or (len(report.digests) < report.images and began < end + LONG):
        asked += 1
        seed = chance.randrange(POPULAR) if asked % 2 else POPULAR + number + report.clients * asked
        try:
            answer = await http.get(f"/v1/images/{DEMO_NAME}/{seed}.jpeg?width={SIDE}&height={SIDE}&psi=0.7")
        except httpx.HTTPError:
            report.statuses[0] += 1
            continue
        report.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            report.digests.setdefault(seed, set()).add(hashlib.sha256(answer.content).hexdigest())
            if began >= warm:
                report.waits.append(time.monotonic() - began)
        else:
            await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))


async def _watch_memory(cluster: Cluster, warm: float, report: Report) -> None:
    await asyncio.sleep(warm - time.monotonic())
    before = {name: _memory(process.pid) for name, process in cluster.processes.items()}
    await asyncio.sleep(report.seconds)
    report.memory = {name: (before[name], _memory(process.pid)) for name, process in cluster.processes.items()}


def _memory(process: int) -> float:
    """Resident memory of a process in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _compare(report: Report) -> None:
    """Renders everything again."""
    checkpoint = Checkpoint.open(DEMO)
    renderer = Renderer(checkpoint, "cpu")
    viewport, encoding = Viewport.resolve(SIDE, SIDE), Encoding("jpeg")
    for seed, digests in tqdm(report.digests.items(), desc="comparing", unit="picture", delay=2, disable=None):
        spec = RenderSpec(checkpoint.digest, Latent(seed=seed, psi=0.7), viewport, encoding)
        if digests != {hashlib.sha256(encode_image(renderer.render(spec), spec)).hexdigest()}:
            report.wrong.append(f"seed {seed}: other bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200, help="at once (default: 200)")
    parser.add_argument("--minutes", type=float, default=2.0, help="of load (default: 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="creps-load-") as folder:
        report = asyncio.run(load(Path(folder), options.clients, 60 * options.minutes))
    print(f"{os.cpu_count()} cores, which the clients share\n{report}")
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
