"""Videos drawn by workers: the file that one process writes, whatever goes wrong on the way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.latents.latent import Latent
from model.motion.pace import Pace
from model.spec import RenderSpec
from service.imaging import scene
from service.imaging import video as videos
from service.imaging.local_video import write_video
from service.imaging.object_store import Store
from service.imaging.video_spec import GROUP_FRAMES, VIDEO_KINDS, VideoKind, VideoSpec
from service.jobs.job import Job
from service.jobs.reconciler import Reconciler
from service.jobs.repository import JobRepository
from service.queue.client import RenderClient
from service.runtime.redis_keys import GROUP, IMAGES
from service.worker import tile_processor
from service.worker.tile_processor import Group, Tile, TileProcessor
from tests.service.jobs.cluster import Cluster, persist, stand_in_cluster
from tests.service.jobs.conftest import RunWorker, ends_as, submit
from tests.service.jobs.stand_in import PatternRenderer, files_below, journal, make_video_job, pattern
from tests.service.stand_in import make_spec
from tests.service.waiting import LONG, eventually

pytest.importorskip("av")

pytestmark = pytest.mark.anyio


@pytest.fixture
def repository(redis: "Redis") -> JobRepository:
    return JobRepository(redis)


class Gate:
    """Frames are drawn one at a time, and none after the first three until the gate opens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._folder = folder
        self._opened = threading.Event()
        self.open = self._opened.set
        draw = PatternRenderer.render_batch

        def wait_and_draw(renderer: PatternRenderer, specs: Sequence[RenderSpec], **kwargs: Any) -> Any:
            if self.is_reached():
                self._opened.wait(LONG)
            return draw(renderer, specs, **kwargs)

        monkeypatch.setattr(scene, "BATCH_PIXELS", 1)
        monkeypatch.setattr(PatternRenderer, "render_batch", wait_and_draw)

    def is_reached(self) -> bool:
        return len(journal(self._folder)) >= 3


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, models: Path) -> Iterator[Gate]:
    gate = Gate(monkeypatch, models)
    yield gate
    gate.open()


class _Patterns:
    """Draws what the workers' renderer draws."""

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        return np.full((1, 2), latent.seed, np.float32)

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[NDArray[np.uint8]]:
        return [pattern(spec) for spec in specs]


def expected(job: Job, folder: Path) -> bytes:
    """The file that ``creps video`` would write."""
    assert isinstance(job.export, VideoSpec)
    path = folder / f"expected.{job.export.suffix}"
    write_video(job.export, _Patterns(), path, lambda frames: None)
    return path.read_bytes()


@pytest.mark.parametrize(("kind", "pace"), [*((kind, "time") for kind in VIDEO_KINDS), ("ffv1", "perceived")])
async def test_one_file_replaces_its_groups(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    tmp_path: Path,
    kind: VideoKind,
    pace: Pace,
) -> None:
    job = make_video_job(checkpoint.digest, kind, pace)
    await submit(repository, store, job)
    async with run_worker(), run_worker():
        status = await ends_as(repository, job, "succeeded")
    assert (status.done, status.total, status.open) == (3, 3, 0)
    files = files_below(outputs / job.folder)
    assert files.keys() == {"job.json", job.export.name}
    assert files[job.export.name] == expected(job, tmp_path)


async def test_images_are_drawn_between_the_frames_of_a_group(
    redis: "Redis",
    repository: JobRepository,
    store: Store,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    gate: Gate,
) -> None:
    job = make_video_job(checkpoint.digest)
    await submit(repository, store, job)

    async def is_read() -> bool:
        return bool((await redis.xpending(IMAGES, GROUP))["pending"])

    async with RenderClient(redis, 100) as client, run_worker():
        await eventually(gate.is_reached)
        image = asyncio.create_task(client.render(make_spec(checkpoint.digest, seed=77), LONG))
        await eventually(is_read)
        gate.open()
        await image
        drawn = [line.partition(" ")[0] for line in journal(models)]
        assert drawn.index("77") < GROUP_FRAMES[1]
        await ends_as(repository, job, "succeeded")


async def test_a_worker_that_stops_leaves_its_group_to_others(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    tmp_path: Path,
    gate: Gate,
) -> None:
    job = make_video_job(checkpoint.digest)
    await submit(repository, store, job)
    async with run_worker():
        await eventually(gate.is_reached)
        asyncio.get_running_loop().call_soon(gate.open)  # once the worker was asked to stop
    assert len(journal(models)) < GROUP_FRAMES[1]
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    assert files_below(outputs / job.folder)[job.export.name] == expected(job, tmp_path)


async def test_a_cancelled_video_is_drawn_no_further(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    gate: Gate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_processor, "ENDED_SECONDS", 0.02)
    look_for_ended = TileProcessor.look_for_ended
    cancelled, seen = asyncio.Event(), asyncio.Event()

    async def look(tiles: TileProcessor, groups: Sequence[Tile | Group]) -> None:
        was_cancelled = cancelled.is_set()
        await look_for_ended(tiles, groups)
        if was_cancelled:
            seen.set()

    monkeypatch.setattr(TileProcessor, "look_for_ended", look)
    job = make_video_job(checkpoint.digest)
    await submit(repository, store, job)

    async def is_free() -> bool:
        return (await repository.status(job.id)).open == 0

    async with run_worker():
        await eventually(gate.is_reached)
        await repository.cancel(job.id)
        cancelled.set()
        await asyncio.wait_for(seen.wait(), LONG)
        gate.open()
        await eventually(is_free)
    assert len(journal(models)) < GROUP_FRAMES[1]
    await Reconciler(repository, store, days=1).reconcile()
    assert files_below(outputs / job.folder) == {}


async def test_a_worker_without_pyav_tells_why(
    repository: JobRepository,
    store: Store,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(videos, "find_spec", lambda name: None)
    monkeypatch.setattr(tile_processor, "RETRY_SECONDS", 0.01)
    job = make_video_job(checkpoint.digest)
    await submit(repository, store, job)
    async with run_worker():
        status = await ends_as(repository, job, "failed")
    assert status.error is not None
    assert "creps-serve[video]" in status.error


async def test_a_frame_that_fails_is_tried_again(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_processor, "RETRY_SECONDS", 0.01)
    failures = iter([True])

    def draw(
        renderer: PatternRenderer, specs: Sequence[RenderSpec], *, wanted: Sequence[Callable[[], bool]]
    ) -> list[NDArray[np.uint8]]:
        if len(specs) == 1 and next(failures, False):
            raise RuntimeError("for a moment")
        return [pattern(spec) for spec in specs]

    monkeypatch.setattr(scene, "BATCH_PIXELS", 1)
    monkeypatch.setattr(PatternRenderer, "render_batch", draw)
    job = make_video_job(checkpoint.digest)
    await submit(repository, store, job)
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    assert files_below(outputs / job.folder)[job.export.name] == expected(job, tmp_path)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    parts = ("redis", "gateway", "worker-1", "worker-2")
    async with stand_in_cluster(tmp_path, parts, {"CREPS_TEST_DELAY": "0.02"}) as cluster:
        yield cluster


@pytest.mark.slow
async def test_killed_workers_leave_the_same_file(cluster: Cluster, tmp_path: Path) -> None:
    order: dict[str, Any] = {"model": "pattern", "width": 64, "height": 48, "output": "mp4", "truncation_psi": 1}
    order["keyframes"] = [{"time": 0, "seed": 1}, {"time": 4, "seed": 2}]
    async with httpx.AsyncClient(base_url=cluster.address, trust_env=False, timeout=20) as http:
        answer = await persist(http, "POST", "/v1/jobs", json=order, headers={"Idempotency-Key": "key"})
        assert answer.status_code == 202, answer.text
        address = f"/v1/jobs/{answer.json()['id']}"

        async def status() -> dict[str, Any]:
            described: dict[str, Any] = (await persist(http, "GET", address)).json()
            return described

        async def is_under_way() -> bool:
            return len(journal(cluster.models)) > 40

        async def has_ended() -> bool:
            return (await status())["state"] not in ("queued", "running")

        await eventually(is_under_way)
        for worker in ("worker-1", "worker-2"):
            cluster.kill(worker)
            await asyncio.sleep(0.1)
            await cluster.start(worker)
        await eventually(has_ended)
        assert (await status())["state"] == "succeeded", await status()
    folder = cluster.outputs / address.removeprefix("/v1/")
    job = Job.from_json((folder / "job.json").read_bytes())
    assert (folder / "video.mp4").read_bytes() == expected(job, tmp_path)
