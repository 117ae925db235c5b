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
from service import consumer
from service.jobs import tile_work
from service.jobs.board import Board
from service.jobs.keeper import Keeper
from service.outputs.finish import Progress, finish
from service.outputs.order import Kind, Order
from service.outputs.store import Store, put_once
from service.queue import DEAD
from service.render_client import RenderClient
from service.rendering import Rendering
from tests.service.jobs.conftest import RunWorker, ends_as, submit
from tests.service.jobs.stand_in import BREAKS, PatternRenderer, expected_tiles, files_below, journal, make_job, pattern
from tests.service.stand_in import make_spec
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def board(redis: "Redis") -> Board:
    return Board(redis)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
async def test_deep_zoom(
    board: Board, store: Store, outputs: Path, checkpoint: Checkpoint, run_worker: RunWorker, image_format: Format
) -> None:
    job = make_job(checkpoint.digest, image_format=image_format)
    await submit(board, store, job)
    async with run_worker():
        status = await ends_as(board, job, "succeeded")
    assert (status.done, status.open) == (job.order.pyramid.tiles, 0)
    files = files_below(outputs / job.folder)
    assert files.pop("job.json")
    assert b'Width="300" Height="200"' in files.pop("picture.dzi")
    assert files == expected_tiles(job.order)


@pytest.mark.parametrize("kind", ["tiff", "png"])
async def test_one_file_replaces_its_tiles(
    board: Board, store: Store, outputs: Path, checkpoint: Checkpoint, run_worker: RunWorker, kind: Kind
) -> None:
    job = make_job(checkpoint.digest, kind)
    await submit(board, store, job)
    async with run_worker():
        await ends_as(board, job, "succeeded")
    file = outputs / job.path(job.order.name)
    assert files_below(outputs / job.folder).keys() == {"job.json", file.name}
    pixels = tifffile.imread(file) if kind == "tiff" else np.asarray(Image.open(file))
    assert np.array_equal(pixels, pattern(job.order.spec))


async def test_pictures_go_before_tiles(
    redis: "Redis", board: Board, store: Store, checkpoint: Checkpoint, run_worker: RunWorker, models: Path
) -> None:
    job = make_job(checkpoint.digest, size=(1000, 1000))
    await submit(board, store, job)
    async with RenderClient(redis, 100) as client:
        waiting = asyncio.create_task(client.render(make_spec(checkpoint.digest, seed=77), LONG))

        async def is_queued() -> bool:
            return (await client.depths())["pictures"] == 1

        await eventually(is_queued)
        async with run_worker():
            await waiting
            assert journal(models)[0].startswith("77 ")


async def test_no_more_tiles_are_taken_than_the_slowest_model_draws_in_half_a_second(
    board: Board, store: Store, checkpoint: Checkpoint, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def draw(renderer: PatternRenderer, specs: Sequence[RenderSpec]) -> list[NDArray[np.uint8]]:
        batches.append(len(specs))
        return [pattern(spec) for spec in specs]

    monkeypatch.setattr(PatternRenderer, "render_batch", draw)
    monkeypatch.setattr(Rendering, "rates", {"fast": 1e9, "slow": 4.0 * 64 * 64})
    job = make_job(checkpoint.digest, size=(640, 640), tile=64)
    await submit(board, store, job)
    async with run_worker():
        await ends_as(board, job, "succeeded")
    assert max(batches) == 2


async def test_only_what_is_missing_is_drawn(
    redis: "Redis",
    board: Board,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
) -> None:
    job = make_job(checkpoint.digest)
    await submit(board, store, job)
    async with run_worker():
        await ends_as(board, job, "succeeded")
    whole = files_below(outputs)
    drawn = len(journal(models))
    await redis.flushall()  # and so Redis knows nothing of the job
    (outputs / job.path("picture.dzi")).unlink()
    missing = outputs / job.path(job.order.tile_name(3))
    missing.unlink()
    await Keeper(board, store, days=1).look()
    async with run_worker():
        await ends_as(board, job, "succeeded")
    assert files_below(outputs) == whole
    assert len(journal(models)) == drawn + 1


async def test_a_cancelled_job_stops_and_leaves_nothing(
    board: Board,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CREPS_TEST_DELAY", "0.02")
    job = make_job(checkpoint.digest, size=(2000, 2000))
    await submit(board, store, job)
    async with run_worker():
        await eventually(lambda: len(journal(models)) > 10)
        await board.cancel(job.id)
        await tidied(board, store)
        drawn = len(journal(models))
        await asyncio.sleep(0.2)
        assert len(journal(models)) == drawn < job.order.pyramid.tiles
    assert not (outputs / job.folder).exists()
    assert (await board.status(job.id)).state == "cancelled"


async def tidied(board: Board, store: Store) -> None:
    """Returns once a keeper has removed the files of all jobs that did not succeed."""
    keeper = Keeper(board, store, days=1)

    async def is_gone() -> bool:
        await keeper.look()
        return not await board.untidy()

    await eventually(is_gone)


async def test_a_cancelled_job_is_not_finished(
    board: Board,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_work, "PROGRESS_SECONDS", 0.01)
    tiles = 0

    def finish_slowly(order: Order, store: Store, folder: str, progress: Progress) -> None:
        def count(more: int) -> None:
            nonlocal tiles
            progress(more)
            tiles += more
            time.sleep(0.2)  # it would take 40 s to come half way

        finish(order, store, folder, count)

    monkeypatch.setattr(tile_work, "finish", finish_slowly)
    job = make_job(checkpoint.digest, "tiff", size=(1200, 1000))
    await submit(board, store, job)
    async with run_worker():
        await eventually(lambda: tiles > 5)
        await board.cancel(job.id)
        await tidied(board, store)
        assert tiles < job.order.pyramid.tiles / 2
    assert not (outputs / job.folder).exists()


async def test_an_order_that_a_worker_cannot_read_fails_with_the_reason(
    redis: "Redis", board: Board, store: Store, checkpoint: Checkpoint, run_worker: RunWorker
) -> None:
    """And no other does."""
    strange, other = make_job(checkpoint.digest), make_job(checkpoint.digest, number=2)
    await submit(board, store, strange)
    text = strange.order.to_json()
    await redis.hset(f"creps:job:{strange.id}", "order", text.replace('"dzi"', '"zarr"'))
    await submit(board, store, other)
    async with run_worker():
        await ends_as(board, other, "succeeded")

        async def has_failed() -> bool:
            return await redis.hget(f"creps:job:{strange.id}", "state") == b"failed"

        await eventually(has_failed)
    await redis.hset(f"creps:job:{strange.id}", "order", text)
    assert (await board.status(strange.id)).error == "the worker cannot read the order; its log tells why"


async def test_what_a_killed_worker_left_of_the_file_goes(
    board: Board, store: Store, outputs: Path, checkpoint: Checkpoint, run_worker: RunWorker
) -> None:
    job = make_job(checkpoint.digest, "tiff")
    await submit(board, store, job)
    code = (
        "import obstore, os, sys; from service.outputs.store import open_store\n"
        "writer = obstore.open_writer(open_store(sys.argv[1]), sys.argv[2], buffer_size=1 << 20).__enter__()\n"
        "writer.write(bytes(3 << 20)); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, outputs.as_uri(), job.path(job.order.name)]
    for _ in range(2):
        await asyncio.to_thread(subprocess.run, command, check=False)
    assert f"{job.order.name}#2" in files_below(outputs / job.folder)
    async with run_worker():
        await ends_as(board, job, "succeeded")
    assert files_below(outputs / job.folder).keys() == {"job.json", job.order.name}


async def test_a_store_that_fails_for_a_while(
    board: Board,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_work, "RETRY_SECONDS", 0.01)
    failures = 0

    async def fail_at_first(store: Store, path: str, content: bytes) -> bool:
        nonlocal failures
        if failures < 20:
            failures += 1
            raise GenericError("No space left on device (os error 28)")
        return await put_once(store, path, content)

    monkeypatch.setattr(tile_work, "put_once", fail_at_first)
    job = make_job(checkpoint.digest)
    await submit(board, store, job)
    async with run_worker():
        await ends_as(board, job, "succeeded")
    files = files_below(outputs / job.folder)
    assert {name: files[name] for name in expected_tiles(job.order)} == expected_tiles(job.order)


@pytest.mark.parametrize("kind", ["dzi", "tiff", "png"])
async def test_a_store_that_cannot_take_the_last_file(
    redis: "Redis",
    board: Board,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
) -> None:
    monkeypatch.setattr(tile_work, "RETRY_SECONDS", 0.01)

    def fail(*_: Any) -> None:
        raise GenericError("Unable to copy data to file: No space left on device (os error 28)")

    monkeypatch.setattr(tile_work, "finish", fail)
    job = make_job(checkpoint.digest, kind)
    await submit(board, store, job)
    async with run_worker():
        status = await ends_as(board, job, "failed")
    assert status.error == "the store failed: No space left on device"
    assert await redis.xlen(DEAD) == 1
    await Keeper(board, store, days=1).look()
    assert not (outputs / job.folder).exists()


async def test_a_tile_that_cannot_be_drawn(
    board: Board,
    store: Store,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    monkeypatch: pytest.MonkeyPatch,
    models: Path,
) -> None:
    monkeypatch.setattr(tile_work, "RETRY_SECONDS", 0.01)
    job = make_job(checkpoint.digest, seed=BREAKS)
    other = make_job(checkpoint.digest, number=2)
    await submit(board, store, job)
    await submit(board, store, other)
    async with run_worker():
        status = await ends_as(board, job, "failed")
        await ends_as(board, other, "succeeded")
    assert status.error is not None
    assert "RuntimeError" in status.error
    assert "secret" not in status.error
    # Alone or after a batch of which it was a part, each time.
    assert journal(models).count(f"{BREAKS} 300 64,0") in range(tile_work.MAX_TRIES, 2 * tile_work.MAX_TRIES + 1)


async def test_a_model_that_is_not_there(
    board: Board, store: Store, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_work, "RETRY_SECONDS", 0.01)
    job = make_job("d" * 64)
    await submit(board, store, job)
    async with run_worker():
        status = await ends_as(board, job, "failed")
    assert status.error == "the worker cannot load the model; its log tells why"


async def test_a_worker_that_stops_leaves_the_rest_to_others(
    board: Board,
    store: Store,
    outputs: Path,
    checkpoint: Checkpoint,
    run_worker: RunWorker,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "PATIENCE", 1.0)
    monkeypatch.setenv("CREPS_TEST_DELAY", "0.01")
    job = make_job(checkpoint.digest, "tiff", size=(600, 400))
    await submit(board, store, job)
    for drawn in (5, 30):
        async with run_worker():
            await eventually(lambda drawn=drawn: len(journal(models)) > drawn)  # type: ignore[misc]
    async with run_worker():
        await ends_as(board, job, "succeeded")
    assert np.array_equal(tifffile.imread(outputs / job.path("picture.tiff")), pattern(job.order.spec))
    assert len(journal(models)) == len(set(journal(models)))  # none was drawn twice
