"""Fixtures of the jobs' tests: a model, a folder for outputs, and workers in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from model.checkpoint import Checkpoint
from service.imaging.object_store import Store, open_store
from service.jobs import records
from service.jobs.job import Job
from service.jobs.repository import JobRepository
from service.jobs.status import State, Status
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.jobs.stand_in import make_worker
from tests.service.waiting import LONG, eventually

RunWorker = Callable[[], AbstractAsyncContextManager[None]]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def checkpoint(models: Path) -> Checkpoint:
    return save_hollow_checkpoint(models, "pattern")


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def store(outputs: Path) -> Store:
    return open_store(outputs.as_uri())


@pytest.fixture
def run_worker(redis: "Redis", models: Path, store: Store) -> RunWorker:
    """Runs a worker in this process for as long as a block runs; at its end it is asked to stop, and must."""

    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        worker = make_worker(redis, models, store)
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await asyncio.wait_for(running, LONG)

    return run


async def submit(repository: JobRepository, store: Store, job: Job) -> None:
    """As the gateway does."""
    await records.put_record(store, job)
    await repository.create(job)


async def ends_as(repository: JobRepository, job: Job, state: State) -> Status:
    """Waits for the end of a job, which must be this one."""

    async def has_ended() -> bool:
        return (await repository.status(job.id)).ended

    await eventually(has_ended)
    status = await repository.status(job.id)
    assert status.state == state, status
    return status
