"""How fast pictures are answered, beside the renderer and encoder called directly.

The direct measurement uses the same threads, batches and pictures, in a process of its own, with nothing between
renderer and encoder.
"""

import os
import re
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from model.checkpoint import Checkpoint
from model.spec import Encoding, Latent, RenderSpec
from model.viewport import Viewport
from service.benchmark.clients import Answer, Request, ask_all
from service.benchmark.processes import running_service
from service.catalog import DEMO, DEMO_NAME
from service.settings import Settings

CLIENTS = 16
SIZE = 256
IDLE_REQUESTS = 60
WARM_UP = 4


@dataclass(frozen=True)
class PicturesReport:
    """What was measured.

    Attributes:
        direct_rate: pictures a second, rendered and encoded without a service.
        service_rate: pictures a second over HTTP, from concurrent clients.
        latency_ms: median and 99th percentile of what one of the concurrent clients waited.
        idle_ms: median of a request while nothing else is asked.
        idle_overhead_ms: median of what an idle request takes beside rendering and encoding.
    """

    pictures: int
    direct_rate: float
    service_rate: float
    latency_ms: tuple[float, float]
    idle_ms: float
    idle_overhead_ms: float

    @property
    def efficiency(self) -> float:
        """Throughput over HTTP as a part of the direct one."""
        return self.service_rate / self.direct_rate

    def __str__(self) -> str:
        median, slowest = self.latency_ms
        return "\n".join(
            [
                f"{self.pictures} pictures of {SIZE}×{SIZE} as JPEG, {CLIENTS} clients, {os.cpu_count()} cores",
                f"renderer and encoder directly  {self.direct_rate:8.2f} pictures/s",
                f"over HTTP                      {self.service_rate:8.2f} pictures/s, {self.efficiency:.0%} of it",
                f"a client's wait                {median:8.1f} ms median, {slowest:.1f} ms 99th percentile",
                f"an idle service's answer       {self.idle_ms:8.1f} ms median",
                f"of which gateway and queue     {self.idle_overhead_ms:8.1f} ms median",
            ]
        )


def measure(pictures: int) -> PicturesReport:
    """The demo network at 256², as JPEG, from 16 concurrent clients. Progress goes to stderr."""
    print("directly …", file=sys.stderr)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        direct_rate = process.submit(measure_direct, pictures).result()
    with running_service(workers=1) as service:
        port = service.port
        first_unused = pictures + IDLE_REQUESTS
        ask_all(port, requests_of(range(first_unused, first_unused + WARM_UP)), 1, "warming up")
        # Seeds that nobody has asked for before, so that neither lines nor pictures are cached.
        seconds, waited = ask_all(port, requests_of(range(pictures)), CLIENTS, f"{CLIENTS} clients")
        _, idle = ask_all(port, requests_of(range(pictures, first_unused)), 1, "one client")
    totals = [answer.milliseconds for answer in waited]
    return PicturesReport(
        pictures=pictures,
        direct_rate=direct_rate,
        service_rate=pictures / seconds,
        latency_ms=(statistics.median(totals), statistics.quantiles(totals, n=100)[98]),
        idle_ms=statistics.median(answer.milliseconds for answer in idle),
        idle_overhead_ms=statistics.median(map(_overhead, idle)),
    )


def measure_direct(pictures: int) -> float:
    """Pictures a second from renderer and encoder alone; one batch is encoded while the next is rendered."""
    from kernels.renderer import Renderer
    from service.encode import encode

    batch = Settings.model_fields["batch_limit"].default
    renderer = Renderer(Checkpoint.open(DEMO), "cpu")
    specs = [
        RenderSpec(DEMO_NAME, Latent(seed=seed), Viewport.resolve(SIZE, SIZE), Encoding("jpeg"))
        for seed in range(pictures + WARM_UP)
    ]
    with ThreadPoolExecutor() as encoders:
        renderer.render_batch(specs[pictures:])
        began = time.perf_counter()
        files = []
        for start in range(0, pictures, batch):
            part = specs[start : min(start + batch, pictures)]
            drawn = renderer.render_batch(part)
            files += [encoders.submit(encode, p, spec.encoding) for p, spec in zip(drawn, part, strict=True)]
        for file in files:
            file.result()
        return pictures / (time.perf_counter() - began)


def requests_of(seeds: range) -> list[Request]:
    """One picture of each seed."""
    return [Request(f"/v1/images/{DEMO_NAME}/{seed}.jpeg?width={SIZE}&height={SIZE}") for seed in seeds]


def _overhead(answer: Answer) -> float:
    timings = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.timing))
    return answer.milliseconds - float(timings["render"]) - float(timings["encode"])
