"""Jobs drawn by workers in this process: the right files, whatever goes wrong on the way."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from obstore.exceptions import GenericError
from PIL import Image
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from model.spec import Format, RenderSpec
from service.imaging.assemble import Progress, assemble
from service.imaging.export_spec import ExportSpec, Kind
from service.imaging.object_store import Store, put_once
from service.jobs.reconciler import Reconciler
from service.jobs.repository import JobRepository
from service.queue import consumer
from service.queue.client import RenderClient
from service.runtime.redis_keys import DEAD
from service.worker import tile_processor
from service.worker.model_cache import ModelCache
from tests.service.jobs.conftest import RunWorker, ends_as, submit
from tests.service.jobs.stand_in import (
    BREAKS,
    PatternRenderer,
    expected_tiles,
    files_below,
    image_of,
    journal,
    make_job,
    pattern,
)
from tests.service.stand_in import make_spec
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def repository(redis: "Redis") -> JobRepository:
    return JobRepository(redis)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
async def test_deep_zoom(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    image_format: Format,
) -> None:
    job = make_job(checkpoint.digest, image_format=image_format)
    await submit(repository, store, job)
    async with run_worker():
        status = await ends_as(repository, job, "succeeded")
    assert (status.done, status.open) == (job.export.tiles, 0)
    files = files_below(outputs / job.folder)
    assert files.pop("job.json")
    assert b'Width="300" Height="200"' in files.pop("picture.dzi")
    assert files == expected_tiles(image_of(job))


@pytest.mark.parametrize("kind", ["tiff", "png"])
async def test_one_file_replaces_its_tiles(
    repository: JobRepository, store: Store, outputs: Path, checkpoint: Checkpoint, run_worker: RunWorker, kind: Kind
) -> None:
    job = make_job(checkpoint.digest, kind)
    await submit(repository, store, job)
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    file = outputs / job.path(job.export.name)
    assert files_below(outputs / job.folder).keys() == {"job.json", file.name}
    pixels = tifffile.imread(file) if kind == "tiff" else np.asarray(Image.open(file))
    assert np.array_equal(pixels, pattern(job.export.spec))


async def test_images_go_before_tiles(
    redis: "Redis", repository: JobRepository, store: Store, checkpoint: Checkpoint, run_worker: RunWorker, models: Path
) -> None:
    job = make_job(checkpoint.digest, size=(1000, 1000))
    await submit(repository, store, job)
    async with RenderClient(redis, 100) as client:
        waiting = asyncio.create_task(client.render(make_spec(checkpoint.digest, seed=77), LONG))

        async def is_queued() -> bool:
            return (await client.depths())["pictures"] == 1

        await eventually(is_queued)
        async with run_worker():
            await waiting
            assert journal(models)[0].startswith("77 ")


async def test_no_more_tiles_are_taken_than_the_slowest_model_draws_in_half_a_second(
    repository: JobRepository,
    store: Store,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[int] = []

    def draw(renderer: PatternRenderer, specs: Sequence[RenderSpec], wanted: object) -> list[NDArray[np.uint8]]:
        batches.append(len(specs))
        return [pattern(spec) for spec in specs]

    monkeypatch.setattr(PatternRenderer, "render_batch", draw)
    monkeypatch.setattr(ModelCache, "rates", {"fast": 1e9, "slow": 3.5 * 64 * 64})
    job = make_job(checkpoint.digest, size=(640, 640), tile=64)
    await submit(repository, store, job)
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    assert max(batches) == 2


async def test_only_what_is_missing_is_drawn(
    redis: "Redis",
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
) -> None:
    job = make_job(checkpoint.digest)
    await submit(repository, store, job)
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    whole = files_below(outputs)
    drawn = len(journal(models))
    await redis.flushall()  # and so Redis knows nothing of the job
    (outputs / job.path("picture.dzi")).unlink()
    missing = outputs / job.path(job.export.tile_name(3))
    missing.unlink()
    await Reconciler(repository, store, days=1).reconcile()
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    assert files_below(outputs) == whole
    assert len(journal(models)) == drawn + 1


async def test_a_cancelled_job_stops_and_leaves_nothing(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CREPS_TEST_DELAY", "0.02")
    job = make_job(checkpoint.digest, size=(2000, 2000))
    await submit(repository, store, job)
    async with run_worker():
        await eventually(lambda: len(journal(models)) > 10)
        await repository.cancel(job.id)
        await cleaned_up(repository, store)
        drawn = len(journal(models))
        await asyncio.sleep(0.2)
        assert len(journal(models)) == drawn < job.export.tiles
    assert not (outputs / job.folder).exists()
    assert (await repository.status(job.id)).state == "cancelled"


async def cleaned_up(repository: JobRepository, store: Store) -> None:
    """Returns once a keeper has removed the files of all jobs that did not succeed."""
    reconciler = Reconciler(repository, store, days=1)

    async def is_gone() -> bool:
        await reconciler.reconcile()
        return not await repository.pending_cleanup()

    await eventually(is_gone)


async def test_a_cancelled_job_is_not_finished(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_processor, "PROGRESS_SECONDS", 0.01)
    tiles = 0

    def finish_slowly(export: ExportSpec, store: Store, folder: str, progress: Progress) -> None:
        def count(more: int) -> None:
            nonlocal tiles
            progress(more)
            tiles += more
            time.sleep(0.2)  # it would take 40 s to come half way

        assemble(export, store, folder, count)

    monkeypatch.setattr(tile_processor, "assemble", finish_slowly)
    job = make_job(checkpoint.digest, "tiff", size=(1200, 1000))
    await submit(repository, store, job)
    async with run_worker():
        await eventually(lambda: tiles > 5)
        await repository.cancel(job.id)
        await cleaned_up(repository, store)
        assert tiles < job.export.tiles / 2
    assert not (outputs / job.folder).exists()


async def test_an_order_that_a_worker_cannot_read_fails_with_the_reason(
    redis: "Redis", repository: JobRepository, store: Store, checkpoint: Checkpoint, run_worker: RunWorker
) -> None:
    """And no other does."""
    strange, other = make_job(checkpoint.digest), make_job(checkpoint.digest, number=2)
    await submit(repository, store, strange)
    text = strange.export.to_json()
    await redis.hset(f"creps:job:{strange.id}", "order", text.replace('"dzi"', '"zarr"'))
    await submit(repository, store, other)
    async with run_worker():
        await ends_as(repository, other, "succeeded")

        async def has_failed() -> bool:
            return await redis.hget(f"creps:job:{strange.id}", "state") == b"failed"

        await eventually(has_failed)
    await redis.hset(f"creps:job:{strange.id}", "order", text)
    assert (await repository.status(strange.id)).error == "the worker cannot read the order; its log tells why"


async def test_what_a_killed_worker_left_of_the_file_goes(
    repository: JobRepository, store: Store, outputs: Path, checkpoint: Checkpoint, run_worker: RunWorker
) -> None:
    job = make_job(checkpoint.digest, "tiff")
    await submit(repository, store, job)
    code = (
        "import obstore, os, sys; from service.imaging.object_store import open_store\n"
        "writer = obstore.open_writer(open_store(sys.argv[1]), sys.argv[2], buffer_size=1 << 20).__enter__()\n"
        "writer.write(bytes(3 << 20)); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, outputs.as_uri(), job.path(job.export.name)]
    for _ in range(2):
        await asyncio.to_thread(subprocess.run, command, check=False)
    assert f"{job.export.name}#2" in files_below(outputs / job.folder)
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    assert files_below(outputs / job.folder).keys() == {"job.json", job.export.name}


async def test_a_store_that_fails_for_a_while(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_processor, "RETRY_SECONDS", 0.01)
    failures = 0

    async def fail_at_first(store: Store, path: str, content: bytes) -> bool:
        nonlocal failures
        if failures < 4:  # all of them may be the same tile's
            failures += 1
            raise GenericError("No space left on device (os error 28)")
        return await put_once(store, path, content)

    monkeypatch.setattr(tile_processor, "put_once", fail_at_first)
    job = make_job(checkpoint.digest)
    await submit(repository, store, job)
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    files = files_below(outputs / job.folder)
    assert {name: files[name] for name in expected_tiles(image_of(job))} == expected_tiles(image_of(job))


@pytest.mark.parametrize("kind", ["dzi", "tiff", "png"])
async def test_a_store_that_cannot_take_the_last_file(
    redis: "Redis",
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
) -> None:
    monkeypatch.setattr(tile_processor, "RETRY_SECONDS", 0.01)

    def fail(*_: Any) -> None:
        raise GenericError("Unable to copy data to file: No space left on device (os error 28)")

    monkeypatch.setattr(tile_processor, "assemble", fail)
    job = make_job(checkpoint.digest, kind)
    await submit(repository, store, job)
    async with run_worker():
        status = await ends_as(repository, job, "failed")
    assert status.error == "the store failed: No space left on device"
    assert await redis.xlen(DEAD) == 1
    await Reconciler(repository, store, days=1).reconcile()
    assert not (outputs / job.folder).exists()


async def test_a_tile_that_cannot_be_drawn(
    repository: JobRepository,
    store: Store,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
    models: Path,
) -> None:
    monkeypatch.setattr(tile_processor, "RETRY_SECONDS", 0.01)
    job = make_job(checkpoint.digest, seed=BREAKS)
    other = make_job(checkpoint.digest, number=2)
    await submit(repository, store, job)
    await submit(repository, store, other)
    async with run_worker():
        status = await ends_as(repository, job, "failed")
        await ends_as(repository, other, "succeeded")
    assert status.error is not None
    assert "RuntimeError" in status.error
    assert "secret" not in status.error
    # Alone or after a batch of which it was a part, each time.
    assert journal(models).count(f"{BREAKS} 300 64,0") in range(
        tile_processor.MAX_TRIES, 2 * tile_processor.MAX_TRIES + 1
    )


async def test_a_model_that_is_not_there(
    repository: JobRepository, store: Store, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_processor, "RETRY_SECONDS", 0.01)
    job = make_job("d" * 64)
    await submit(repository, store, job)
    async with run_worker():
        status = await ends_as(repository, job, "failed")
    assert status.error == "the worker cannot load the model; its log tells why"


async def test_a_worker_that_stops_leaves_the_rest_to_others(
    repository: JobRepository,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "HEARTBEAT_TIMEOUT", 1.0)
    monkeypatch.setenv("CREPS_TEST_DELAY", "0.01")
    job = make_job(checkpoint.digest, "tiff", size=(600, 400))
    await submit(repository, store, job)
    for drawn in (5, 30):
        async with run_worker():
            await eventually(lambda drawn=drawn: len(journal(models)) > drawn)  # type: ignore[misc]
    async with run_worker():
        await ends_as(repository, job, "succeeded")
    assert np.array_equal(tifffile.imread(outputs / job.path("picture.tiff")), pattern(job.export.spec))
    assert len(journal(models)) == len(set(journal(models)))  # none was drawn twice
