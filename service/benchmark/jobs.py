"""How fast jobs are made, beside renderer and encoder alone on the same tiles."""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.spec import Encoding, Latent, RenderSpec
from model.viewport import Viewport
from service.benchmark.processes import Running, running_service
from service.outputs.order import Order

HAND = 1 << 20
"""Pixels that are rendered together when the renderer is called directly."""

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class JobsReport:
    """What was measured of one size.

    Attributes:
        direct_rate: tiles a second, rendered and encoded without a service.
        rates: tiles a second of a job, by the number of workers that share the cores.
        peak_mib: most memory of each process, with the most workers.
    """

    model: str
    side: int
    tiles: int
    direct_rate: float
    rates: dict[int, float]
    peak_mib: dict[str, float]

    def __str__(self) -> str:
        lines = [
            f"job of {self.side}×{self.side} as Deep Zoom of JPEG, {self.tiles} tiles, {self.model}",
            f"renderer and encoder directly  {self.direct_rate:8.2f} tiles/s",
        ]
        for workers, rate in self.rates.items():
            name = "1 worker" if workers == 1 else f"{workers} workers, the cores shared"
            lines.append(f"{name:29}  {rate:8.2f} tiles/s, {rate / self.direct_rate:.0%} of it")
        memory = ", ".join(f"{name} {peak:.0f}" for name, peak in self.peak_mib.items())
        return "\n".join([*lines, f"peak memory in MiB: {memory}"])


def measure_preset(preset: str, side: int) -> JobsReport:
    """A job of a network with random weights."""
    from model.measuring import in_own_process, write_random_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{preset}.safetensors"
        in_own_process("random weights", write_random_checkpoint, path, preset)
        return measure(path, side)


def measure(checkpoint: Path, side: int, workers: Sequence[int] = (1, 2)) -> JobsReport:
    """A job of a checkpoint's picture, seed 7. Progress goes to stderr."""
    from model.measuring import in_own_process

    opened = Checkpoint.open(checkpoint)
    order = Order(RenderSpec(opened.digest, Latent(seed=7), Viewport.resolve(side, side), Encoding("jpeg")), "dzi")
    direct = in_own_process("directly", measure_direct, checkpoint, order)
    rates, peaks = {}, {}
    for count in workers:
        with running_service(count, checkpoint.parent) as service:
            rates[count] = order.pyramid.tiles / _run_job(service, order, count)
            peaks = service.peak_mib()
    return JobsReport(opened.name, side, order.pyramid.tiles, order.pyramid.tiles / direct, rates, peaks)


def measure_direct(checkpoint: Path, order: Order) -> float:
    """Seconds for all tiles of an order; some are encoded while the next are rendered, and none is kept."""
    from kernels.renderer import Renderer
    from service.outputs.tiles import encode_tile

    renderer = Renderer(Checkpoint.open(checkpoint), "cpu")
    renderer.render(order.tile_spec(0))
    began = time.perf_counter()
    with ThreadPoolExecutor() as encoders:
        files: list[Future[bytes]] = []
        for hand in _hands(order):
            pictures = renderer.render_batch([order.tile_spec(index) for index in hand])
            for file in files:
                file.result()
            files = [encoders.submit(encode_tile, order, picture) for picture in pictures]
        for file in files:
            file.result()
    return time.perf_counter() - began


def _hands(order: Order) -> Iterator[range]:
    count = max(1, HAND // order.tile**2)
    for start in range(0, order.pyramid.tiles, count):
        yield range(start, min(start + count, order.pyramid.tiles))


def _run_job(service: Running, order: Order, workers: int) -> float:
    """Seconds from the order to the end, once every worker has loaded the model."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=120)
    body = {"model": order.spec.model, "seed": 7, "format": "jpeg"}
    small = {**body, "width": 256 * workers, "height": 256, "tile": 64}
    _wait(connection, small, "warming up")
    width, height = order.spec.viewport.width, order.spec.viewport.height
    began = time.perf_counter()
    _wait(connection, {**body, "width": width, "height": height}, f"{workers} workers")
    return time.perf_counter() - began


def _wait(connection: HTTPConnection, body: dict[str, Any], what: str) -> None:
    job = _ask(connection, "POST", "/v1/jobs", body)
    with tqdm(total=job["tiles_total"], desc=what, unit="tile", leave=False, delay=2) as bar:
        while job["state"] in ("queued", "running"):
            time.sleep(POLL_SECONDS)
            job = _ask(connection, "GET", f"/v1/jobs/{job['id']}")
            bar.update(job["tiles_done"] - bar.n)
    if job["state"] != "succeeded":
        raise InputError("benchmark", f"the job {job['state']}: {job['error']}")


def _ask(connection: HTTPConnection, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status not in (200, 202):
        raise InputError("benchmark", f"the service answered {answer.status}: {content[:200]!r}")
    found: dict[str, Any] = json.loads(content)
    return found
