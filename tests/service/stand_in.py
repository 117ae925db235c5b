"""A renderer that draws at once, or misbehaves as its seed says, and a worker process around it.

The pixels of a picture are its seed (modulo 256), and its file says which model drew it.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from kernels.precision import Agreement
from model.checkpoint import Checkpoint
from model.errors import InputError
from model.spec import Encoding, Latent, RenderSpec
from model.viewport import Viewport
from service.catalog import Catalog
from service.logs import configure_logging
from service.outputs.store import folder_store
from service.queue import connect
from service.settings import Settings
from service.tracing import configure_tracing
from service.worker import Worker

WAITS, KILLS, INVALID, BREAKS, NO_MEMORY, UNENCODABLE = range(1001, 1007)
"""Seeds that misbehave: waits for :func:`open_gate`, kills its process, …"""

PATIENCE = 1.0
"""Seconds, in place of the four that are right for real workers."""


class StandIn:
    """Draws for one model. Notes every batch in the folder's journal as "<pid> <model> <seeds>"."""

    backend = "stand-in"
    memory = 2**30
    precision = (Agreement("fp16", 2, 0.25, 59.5), Agreement("fp16×3", 0, 0.0, 140.0))

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._name = checkpoint.name
        self._folder = checkpoint.path.parent

    def close(self) -> None:
        """Has nothing to give back."""

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[NDArray[np.uint8]]:
        seeds = [spec.latent.seed or 0 for spec in specs]
        with (self._folder / "journal").open("a") as journal:
            journal.write(f"{os.getpid()} {self._name} {','.join(map(str, seeds))}\n")
        for seed in seeds:
            self._misbehave(seed)
        return [
            np.full((spec.viewport.height, spec.viewport.width, 3), seed % 256, np.uint8)
            for spec, seed in zip(specs, seeds, strict=True)
        ]

    def _misbehave(self, seed: int) -> None:
        if seed == WAITS:
            while not (self._folder / "gate").exists():
                time.sleep(0.01)
        elif seed == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        elif seed == INVALID:
            raise InputError("class_index", "this model has no classes")
        elif seed == BREAKS:
            raise RuntimeError("secret detail")
        elif seed == NO_MEMORY:
            raise MemoryError


def encode_plainly(picture: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Shape and value of a picture that has one value, as text."""
    value = int(picture.flat[0])
    if value == UNENCODABLE % 256:
        raise RuntimeError("secret detail")
    assert (picture == value).all()
    return f"{picture.shape[1]}x{picture.shape[0]} {value} {encoding.format}".encode()


def open_gate(folder: Path) -> None:
    """Lets pictures with the seed WAITS be drawn."""
    (folder / "gate").touch()


def journal(folder: Path) -> list[tuple[int, str, list[int]]]:
    """(process, model, seeds) of every batch that was begun."""
    file = folder / "journal"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [(int(pid), name, [int(seed) for seed in seeds.split(",")]) for pid, name, seeds in lines]


def make_spec(digest: str, seed: int = 1, width: int = 8, height: int = 4) -> RenderSpec:
    return RenderSpec(digest, Latent(seed=seed), Viewport.resolve(width, height), Encoding("png"))


def make_worker(redis: "Redis", folder: Path, batch_limit: int = 8) -> Worker:
    return Worker(
        redis,
        Catalog(folder, demo=folder / "none"),
        StandIn,
        folder_store(folder / "outputs"),
        device="cpu",
        batch_limit=batch_limit,
        patience=PATIENCE,
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
