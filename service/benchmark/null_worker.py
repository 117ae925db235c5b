"""A worker whose renderer only waits: ``python -m service.benchmark.null_worker SECONDS [BYTES]``, for each image.

With ``--launches FILE`` the renderer launches kernels, as on a GPU, and writes to FILE how long that took: the thread
that launches must not wait for the rest of the worker.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import uvloop
from numpy.typing import NDArray

from kernels.accuracy import AccuracyReport
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.util.garbage import freeze_loaded
from service.imaging.object_store import open_store
from service.models.bucket_sync import open_catalog
from service.runtime.redis import connect
from service.runtime.settings import WorkerSettings
from service.runtime.signals import on_stop_signal
from service.worker.worker import GPU_BATCH, Worker

CONTENT = bytes(20_000)
"""The file of every image if BYTES is not given, as large as a JPEG of 256×256."""


class NullRenderer:
    """Takes the time of a GPU and leaves the CPU to the service. See RendererLike."""

    backend = arithmetic = "null"
    precision: Sequence[AccuracyReport] = ()
    memory = 0

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def close(self) -> None:
        pass

    def render_batch(
        self, specs: Sequence[RenderSpec], *, wanted: Sequence[Callable[[], bool]]
    ) -> list[NDArray[np.uint8]]:
        """The same pixel for every image."""
        if self._seconds:
            time.sleep(self._seconds * len(specs))
        return [np.zeros((1, 1, 3), np.uint8)] * len(specs)

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        """No benchmark asks for them."""
        return np.zeros((1, 1), np.float32)


class LaunchingRenderer(NullRenderer):
    """Spends a part of each batch in Python, as a renderer that launches kernels does."""

    LAUNCHES = 40
    """Of a batch. Together they take about 2 ms of Python (BENCHMARKS.md)."""

    def __init__(self, seconds: float, log: Path) -> None:
        super().__init__(seconds)
        self._log = log
        self._milliseconds: list[float] = []

    def render_batch(
        self, specs: Sequence[RenderSpec], *, wanted: Sequence[Callable[[], bool]]
    ) -> list[NDArray[np.uint8]]:
        started = time.perf_counter()
        for _ in range(self.LAUNCHES):
            sum(range(600))
            str(list(range(250)))
        self._milliseconds.append(1000 * (time.perf_counter() - started))
        return super().render_batch(specs, wanted=wanted)

    def write_log(self) -> None:
        """Write the milliseconds of each batch's launches."""
        self._log.write_text("\n".join(map(str, self._milliseconds)))


async def _run(renderer: NullRenderer, content: bytes) -> None:
    settings = WorkerSettings()
    assert settings.redis_url is not None  # noqa: S101 - the benchmark sets it
    async with connect(settings.redis_url) as redis, open_catalog(settings) as catalog:
        worker = Worker(
            redis,
            catalog,
            lambda checkpoint: renderer,
            open_store(settings.outputs),
            device="cpu",
            batch_limit=GPU_BATCH,
            encode=lambda image, encoding: content,
        )
        on_stop_signal(worker.stop)
        freeze_loaded()
        await worker.run()


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float)
    parser.add_argument("bytes", type=int, nargs="?", default=len(CONTENT))
    parser.add_argument("--launches", type=Path)
    options = parser.parse_args()
    content = bytes(options.bytes)
    if options.launches is None:
        uvloop.run(_run(NullRenderer(options.seconds), content))
    else:
        launching = LaunchingRenderer(options.seconds, options.launches)
        uvloop.run(_run(launching, content))
        launching.write_log()


if __name__ == "__main__":
    _main()
