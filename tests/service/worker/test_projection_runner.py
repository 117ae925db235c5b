"""A worker's projections: in a real process, with a real Redis and store."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import obstore
import pytest
from obstore.store import LocalStore
from PIL import Image

from model.checkpoint import Checkpoint
from model.latents.latent import pack_floats
from service.imaging.object_store import Store, exists
from service.jobs.projections import Projection, ProjectionRepository, ProjectionStatus
from service.models.catalog import Catalog
from service.models.latent_store import LatentStore
from service.runtime.embedded_redis import embedded_redis
from service.runtime.redis import connect, running_task
from service.worker import projection_runner
from service.worker.projection_runner import ProjectionRunner
from tests.kernels.networks import TINY, random_checkpoint
from tests.service.waiting import LONG

STEPS = 10


@asynccontextmanager
async def running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ProjectionRepository, Store, Checkpoint]]:
    monkeypatch.setattr(projection_runner, "POLL_SECONDS", 0.05)
    models = folder / "models"
    models.mkdir()
    checkpoint, store = random_checkpoint(models), LocalStore(prefix=folder / "outputs", mkdir=True)
    async with embedded_redis() as url, connect(url) as redis:
        runner = ProjectionRunner(redis, Catalog(models, demo=models / "none"), store)
        async with asyncio.timeout(20 * LONG), running_task(runner.run()):
            yield ProjectionRepository(redis, days=1), store, checkpoint


async def order(
    repository: ProjectionRepository,
    store: Store,
    model: str,
    content: bytes,
    steps: int = STEPS,
    mask: bytes | None = None,
) -> Projection:
    now = time.time()
    projection = Projection(f"{time.time_ns():032x}", model, "random", steps, None, now, has_mask=mask is not None)
    for name, path in projection.files.items():
        await obstore.put_async(store, path, content if name == "picture" else mask or b"")
    await repository.create(projection, 10)
    return projection


async def ended(repository: ProjectionRepository, projection: Projection) -> ProjectionStatus:
    while not (status := await repository.status(projection.id)).ended:  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(0.05)
    return status


def picture(side: int = 16) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 100, 50)).save(file, "png")
    return file.getvalue()


async def stand_in(module: str, *arguments: str) -> AsyncGenerator[bytes]:
    """In place of the process, which takes seconds."""
    _, _, folder, steps = arguments
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}  # noqa: ASYNC240 - small files
    assert module == "service.worker.project_picture"
    assert files in ({"picture": picture()}, {"picture": picture(), "mask": picture(17)})
    if "mask" in files:
        yield b'{"field": "mask", "error": "must have the picture\'s size"}\n'
        return
    w = base64.b64encode(pack_floats(np.ones(TINY.num_ws * TINY.w_dim))).decode()
    yield b'{"done": 1}\n'
    yield json.dumps({"done": 2, "w": w}).encode()
    yield json.dumps({"done": int(steps), "w": w, "psnr_w": 20.0, "psnr": 30.0}).encode()


@pytest.mark.parametrize("child", ["stand-in", pytest.param("process", marks=pytest.mark.slow)])
@pytest.mark.anyio
async def test_a_latent_is_found(child: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if child == "stand-in":
        monkeypatch.setattr(projection_runner, "run_module", stand_in)
    async with running(tmp_path, monkeypatch) as (repository, store, checkpoint):
        found = await order(repository, store, checkpoint.digest, picture())
        absent = await order(repository, store, "0" * 64, picture())
        status = await ended(repository, found)
        assert (status.state, status.done) == ("succeeded", STEPS), status
        assert (status.psnr or 0) >= (status.psnr_w or 0) > 0
        assert status.latent is not None
        latent = await LatentStore(store, days=1).get(status.latent, checkpoint)
        latent.check(checkpoint.config)
        assert latent.w is not None
        assert len(latent.w) == 4 * checkpoint.config.num_ws * checkpoint.config.w_dim
        status = await ended(repository, absent)
        assert (status.state, (status.error or "").startswith("model: ")) == ("failed", True), status
        await files_are_deleted(store, absent, found)


@pytest.mark.parametrize("child", ["stand-in", pytest.param("process", marks=pytest.mark.slow)])
@pytest.mark.anyio
async def test_a_mask_of_another_size_is_refused(child: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if child == "stand-in":
        monkeypatch.setattr(projection_runner, "run_module", stand_in)
    async with running(tmp_path, monkeypatch) as (repository, store, checkpoint):
        masked = await order(repository, store, checkpoint.digest, picture(), mask=picture(17))
        status = await ended(repository, masked)
        assert (status.state, (status.error or "").startswith("mask: must have the picture's")) == ("failed", True)
        await files_are_deleted(store, masked)


@pytest.mark.anyio
async def test_one_that_kills_workers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection_runner, "run_module", stand_in)
    monkeypatch.setattr(projection_runner, "MAX_ATTEMPTS", 0)  # as if as many workers had died
    async with running(tmp_path, monkeypatch) as (repository, store, checkpoint):
        deadly = await order(repository, store, checkpoint.digest, picture(), mask=picture(17))
        status = await ended(repository, deadly)
        assert (status.state, "given up" in (status.error or "")) == ("failed", True), status
        await files_are_deleted(store, deadly)


async def files_are_deleted(store: Store, *projections: Projection) -> None:
    for path in [path for each in projections for path in each.files.values()]:
        while await exists(store, path):  # noqa: ASYNC110 - the runner does it after it has told the end
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_damaged_picture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, monkeypatch) as (repository, store, checkpoint):
        status = await ended(repository, await order(repository, store, checkpoint.digest, picture()[:-30]))
        assert (status.state, (status.error or "").startswith("picture: ")) == ("failed", True), status


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_cancelled_one_leaves_the_worker_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, monkeypatch) as (repository, store, checkpoint):
        endless = await order(repository, store, checkpoint.digest, picture(), steps=10_000)
        while (await repository.status(endless.id)).state == "queued":  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)
        assert await repository.end(endless.id, "cancelled")
        following = await order(repository, store, checkpoint.digest, picture(), steps=1)
        assert (await ended(repository, following)).state == "succeeded"
        assert (await repository.status(endless.id)).state == "cancelled"
