"""A worker with a fast renderer that returns its seed (modulo 256) as pixels, or fails for special seeds."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.viewport import Viewport
from service.imaging.object_store import open_store
from service.models.catalog import Catalog
from service.runtime.logs import configure_logging
from service.runtime.redis import connect
from service.runtime.settings import Settings
from service.runtime.tracing import configure_tracing
from service.worker.worker import Worker

WAITS, KILLS, INVALID, BREAKS, NO_MEMORY, UNENCODABLE, LOSES_DEVICE = range(1001, 1008)
"""Special seeds: wait for :func:`open_gate`, kill the process, …"""

HEARTBEAT_TIMEOUT = 1.0
"""Heartbeat timeout in seconds, instead of the 4 s of real workers."""


class StandIn:
    """Renders one model. Writes every batch to the folder's journal as "<pid> <model> <seeds>"."""

    backend = "stand-in"
    arithmetic = "stand-in"
    memory = 2**30
    precision: Any = (  # of AccuracyReport only what metrics show: its module imports torch, which takes seconds
        SimpleNamespace(arithmetic="fp16", levels=2, psnr=59.5),
        SimpleNamespace(arithmetic="fp16×3", levels=0, psnr=140.0),
    )

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._name = checkpoint.name
        self._folder = checkpoint.path.parent

    def close(self) -> None:
        """Nothing to free."""

    def render_batch(
        self, specs: Sequence[RenderSpec], *, wanted: Sequence[Callable[[], bool]]
    ) -> list[NDArray[np.uint8]]:
        seeds = [spec.latent.seed or 0 for spec in specs]
        with (self._folder / "journal").open("a") as journal:
            journal.write(f"{os.getpid()} {self._name} {','.join(map(str, seeds))}\n")
        for seed, is_wanted in zip(seeds, wanted, strict=True):
            self._misbehave(seed, is_wanted)
        return [
            np.full((spec.viewport.height, spec.viewport.width, 3), seed % 256, np.uint8)
            for spec, seed in zip(specs, seeds, strict=True)
        ]

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        """Nine times the seed."""
        self._misbehave(latent.seed or 0, lambda: True)
        return np.full((9, 1), latent.seed or 0, np.float32)

    def _misbehave(self, seed: int, is_wanted: Callable[[], bool]) -> None:
        if seed == WAITS:
            while is_wanted() and not (self._folder / "gate").exists():
                time.sleep(0.01)
        elif seed == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        elif seed == INVALID:
            raise InputError("class_index", "this model has no classes")
        elif seed == BREAKS:
            raise RuntimeError("secret detail")
        elif seed == NO_MEMORY:
            raise MemoryError
        elif seed == LOSES_DEVICE and not any(self._folder.glob("lost by *")):  # the first process does
            (self._folder / f"lost by {os.getpid()}").touch()
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def encode_plainly(image: NDArray[np.uint8], spec: RenderSpec) -> bytes:
    """Shape and value of a uniform image, as text."""
    value = int(image.flat[0])
    if value == UNENCODABLE % 256:
        raise RuntimeError("secret detail")
    assert (image == value).all()
    return f"{image.shape[1]}x{image.shape[0]} {value} {spec.encoding.format}".encode()


def open_gate(folder: Path) -> None:
    """Lets images with the seed WAITS be rendered."""
    (folder / "gate").touch()


def journal(folder: Path) -> list[tuple[int, str, list[int]]]:
    """(process, model, seeds) of every batch that was started."""
    file = folder / "journal"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(int(pid), name, [int(seed) for seed in seeds.split(",")]) for pid, name, seeds in lines]


def make_spec(digest: str, seed: int = 1, width: int = 8, height: int = 4) -> RenderSpec:
    return RenderSpec(digest, Latent(seed=seed), Viewport.resolve(width, height), Encoding("png"))


def synchronize(folder: Path) -> None:
    """Raises, once this process has lost its device."""
    if (folder / f"lost by {os.getpid()}").exists():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def make_worker(redis: "Redis", folder: Path, batch_limit: int = 8) -> Worker:
    return Worker(
        redis,
        Catalog(folder, demo=folder / "none"),
        StandIn,
        open_store((folder / "outputs").as_uri()),
        device="cpu",
        batch_limit=batch_limit,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        synchronize=partial(synchronize, folder),
        encode=encode_plainly,
    )


async def _main(url: str, folder: Path) -> None:
    async with connect(url) as redis:
        worker = make_worker(redis, folder)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


if __name__ == "__main__":
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    configure_tracing("creps-worker")
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2])))
