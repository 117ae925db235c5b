"""A worker with a renderer whose pixels depend on their position, size and seed."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.latents.latent import Latent, unpack_floats
from model.motion.pace import Pace
from model.motion.timeline import Keyframe, Timeline
from model.spec import Encoding, Format, RenderSpec
from model.viewport import Viewport
from service.imaging.export_spec import ExportSpec, Kind
from service.imaging.object_store import Store, open_store
from service.imaging.tile_encoding import encode_tile
from service.imaging.video_spec import VideoKind, VideoSpec
from service.jobs.job import Job
from service.jobs.tile_tasks import TileTask, TileTasks
from service.models.catalog import Catalog
from service.runtime.redis import connect
from service.runtime.redis_keys import GROUP, TILES
from service.worker import tile_processor
from service.worker.worker import Worker

KILLS, BREAKS = 2001, 2002
"""Seeds whose tile at (64, 0) of the largest level kills the process, or fails."""

HEARTBEAT_TIMEOUT = 1.0


def pattern(spec: RenderSpec) -> NDArray[np.uint8]:
    """Pixels [h, w, 3] that no other place, size or seed has."""
    x, y, w, h = spec.viewport.crop
    rows, columns = np.mgrid[y : y + h, x : x + w]
    size, seed = spec.viewport.width + spec.viewport.height, spec.latent.seed or 0
    if spec.latent.w is not None:
        seed = round(1000 * float(unpack_floats(spec.latent.w)[0]))
    return np.stack([columns % 251, rows % 241, (columns * 7 + rows * 13 + size + seed) % 239], -1).astype(np.uint8)


class PatternRenderer:
    """Draws patterns, each tile in ``CREPS_TEST_DELAY`` seconds. Notes in the folder's journal what it draws."""

    backend = "stand-in"
    arithmetic = "stand-in"
    precision = ()
    memory = 1000

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._journal = checkpoint.path.parent / "tiles"

    def close(self) -> None:
        """Nothing to free."""

    def render_batch(
        self, specs: Sequence[RenderSpec], *, wanted: Sequence[Callable[[], bool]]
    ) -> list[NDArray[np.uint8]]:
        for spec in specs:
            viewport = spec.viewport
            with self._journal.open("a") as journal:
                journal.write(
                    f"{os.getpid()} {spec.latent.seed} {viewport.width} {viewport.crop[0]},{viewport.crop[1]}\n"
                )
            time.sleep(float(os.environ.get("CREPS_TEST_DELAY", "0")))
            if viewport.crop[:2] == (64, 0) and viewport.width >= 300:
                if spec.latent.seed == KILLS:
                    os.kill(os.getpid(), signal.SIGKILL)
                elif spec.latent.seed == BREAKS:
                    raise RuntimeError("secret detail")
        return [pattern(spec) for spec in specs]

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        return np.full((1, 2), latent.seed, np.float32)


def journal(folder: Path) -> list[str]:
    """ "<seed> <width> <x>,<y>" of every tile whose drawing was begun."""
    file = folder / "tiles"
    return [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []


def make_job(
    digest: str,
    kind: Kind = "dzi",
    *,
    seed: int = 1,
    size: tuple[int, int] = (300, 200),
    tile: int = 64,
    image_format: Format = "png",
    number: int = 1,
) -> Job:
    spec = RenderSpec(digest, Latent(seed=seed), Viewport.resolve(*size), Encoding(image_format))
    return Job(f"{number:032x}", time.time(), ExportSpec(spec, kind, tile))


def make_video_job(digest: str, kind: VideoKind = "mp4", pace: Pace = "time") -> Job:
    """A job of three groups: a walk from one seed to the next in 60 frames."""
    region = (0.0, 0.0, 1.0, 1.0)
    keyframes = [Keyframe(float(2 * k), (Latent(seed=seed),), region) for k, seed in enumerate((1, 2))]
    return Job(f"{1:032x}", time.time(), VideoSpec(digest, 4, kind, Timeline(keyframes, 30.0, pace=pace), 64, 48))


def image_of(job: Job) -> ExportSpec:
    """What a job exports, which is no video."""
    assert isinstance(job.export, ExportSpec)
    return job.export


async def take_tiles(redis: "Redis", count: int, pixels: int = 1 << 40, worker: str = "worker") -> list[TileTask]:
    """What is queued, and then the tiles of the jobs that have had the least, for a worker."""
    streams: Any = await redis.xreadgroup(GROUP, worker, {TILES: ">"}, count=count)
    entries = [entry for _, entries in streams for entry in entries]
    if len(entries) < count:
        taken = await TileTasks(redis).take(worker, count - len(entries), pixels)
        entries += [(entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in taken]
    return [TileTask.from_fields(entry, fields) for entry, fields in entries]


def expected_tiles(export: ExportSpec) -> dict[str, bytes]:
    """The tiles of an export as a worker stores them."""
    indices = range(export.pyramid.tiles)
    return {export.tile_name(index): encode_tile(export, index, pattern(export.tile_spec(index))) for index in indices}


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file with its path from there, whatever its name; those that vanish meanwhile are none."""
    found = {}
    for parent, _, names in os.walk(folder):  # which, unlike Path.rglob, bears folders that vanish
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def make_worker(redis: "Redis", models: Path, store: Store) -> Worker:
    return Worker(
        redis,
        Catalog(models, demo=models / "none"),
        PatternRenderer,
        store,
        device="cpu",
        batch_limit=8,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
    )


async def _main(url: str, models: Path, outputs: str) -> None:
    async with connect(url) as redis:
        worker = make_worker(redis, models, open_store(outputs))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    tile_processor.RETRY_SECONDS = 0.05
    asyncio.run(_main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
