"""Throughput and latency of images over HTTP, compared with the renderer and encoder called directly.

The direct measurement uses the same threads, batches and images in a process of its own.
"""

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.util.measuring import in_own_process
from model.viewport import Viewport
from service.benchmark.clients import Request, median_and_p99, send_all
from service.benchmark.processes import running_service
from service.benchmark.report import Report, Row
from service.models.catalog import DEMO, DEMO_NAME
from service.worker.worker import CPU_BATCH

CLIENTS = 16
SIZE = 256
SINGLE_REQUESTS = 60
WARM_UP = 4


def measure(images: int) -> Report:
    """Images of the demo network from concurrent clients and from a single one.

    The overhead is the latency without rendering and encoding, measured with a single client.
    """
    direct_rate = in_own_process("directly", measure_direct, images)
    rows: list[Row] = [{"": "renderer and encoder directly", "images/s": direct_rate, "of direct": 1.0}]
    with running_service(workers=1) as service:
        # Every image has its own seed, so that neither lines nor images are cached.
        first, last = WARM_UP + images, WARM_UP + images + SINGLE_REQUESTS
        send_all(service.port, requests_of(range(WARM_UP)), 1, "warming up")
        for clients, seeds in ((CLIENTS, range(WARM_UP, first)), (1, range(first, last))):
            seconds, timings = send_all(service.port, requests_of(seeds), clients, f"{clients} clients")
            rate = len(seeds) / seconds
            name = f"over HTTP, {clients} client{'s' if clients > 1 else ''}"
            latency = median_and_p99([timing.latency for timing in timings])
            overhead = statistics.median(t.latency - t.server["render"] - t.server["encode"] for t in timings)
            row: Row = {"": name, "images/s": rate, "of direct": rate / direct_rate}
            rows.append(row | latency | {"overhead ms": overhead})
        title = f"{images} images of {SIZE}×{SIZE} as JPEG, {os.cpu_count()} cores"
        return Report(title, rows, service.peak_mib())


def measure_direct(images: int) -> float:
    """Images a second from the renderer and encoder; a batch is encoded while the next is rendered."""
    from kernels.renderer import Renderer
    from service.imaging.encode import encode

    batch = CPU_BATCH
    renderer = Renderer(Checkpoint.open(DEMO), "cpu")
    viewport, encoding = Viewport.resolve(SIZE, SIZE), Encoding("jpeg")
    specs = [RenderSpec(DEMO_NAME, Latent(seed=seed), viewport, encoding) for seed in range(images + WARM_UP)]
    with ThreadPoolExecutor() as encoders:
        renderer.render_batch(specs[images:])
        began = time.perf_counter()
        files = []
        for start in range(0, images, batch):
            rendered = renderer.render_batch(specs[start : min(start + batch, images)])
            files += [encoders.submit(encode, image, encoding) for image in rendered]
        for file in files:
            file.result()
        return images / (time.perf_counter() - began)


def requests_of(seeds: range) -> list[Request]:
    return [Request(f"/v1/images/{DEMO_NAME}/{seed}.jpeg?width={SIZE}&height={SIZE}") for seed in seeds]
