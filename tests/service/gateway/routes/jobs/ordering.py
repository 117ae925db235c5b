"""Ordering jobs, drawing them and watching them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import httpx

from service.imaging.export_spec import ExportSpec
from service.jobs.job import Job
from service.jobs.tile_tasks import TileTasks
from service.queue.consumer import Consumer
from tests.service.gateway.stand_in import RunningGateway
from tests.service.jobs.stand_in import image_of, make_worker, take_tiles
from tests.service.waiting import LONG

Result = TypeVar("Result")

ORDER = {"seed": 7, "width": 300, "height": 200, "tile": 64}


@asynccontextmanager
async def worker_of(gateway: RunningGateway) -> AsyncIterator[None]:
    """A worker draws patterns for the gateway's jobs while the block, of the gateway's loop, runs."""
    worker = make_worker(gateway.app_state.jobs.redis, gateway.models, gateway.app_state.outputs)
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await running


@contextmanager
def drawing(gateway: RunningGateway) -> Iterator[None]:
    """A worker draws patterns for the gateway's jobs while the block runs."""
    worker = worker_of(gateway)
    call(gateway, worker.__aenter__())
    try:
        yield
    finally:
        call(gateway, worker.__aexit__(None, None, None))


def call(gateway: RunningGateway, work: Awaitable[Result]) -> Result:
    """Does something in the gateway's loop."""

    async def wait() -> Result:
        return await work

    return asyncio.run_coroutine_threadsafe(wait(), gateway.loop).result(LONG)


def settle(gateway: RunningGateway, job: str, count: int) -> list[int]:
    """Notes that so many tiles of a job are in the store, as workers do. Returns which."""

    async def take_and_settle() -> list[int]:
        redis, settled = gateway.app_state.jobs.redis, list[int]()
        await Consumer(redis, "worker", 1.0).join()
        while len(settled) < count:
            (task,) = await take_tiles(redis, 1)
            await TileTasks(redis).settle(task)
            settled += [task.tile] if task.job == job else []  # else of a test before
        return settled

    return call(gateway, take_and_settle())


def order_of(gateway: RunningGateway, job: str) -> ExportSpec:
    """What the gateway has made of an order."""
    return image_of(job_of(gateway, job))


def job_of(gateway: RunningGateway, job: str) -> Job:
    return call(gateway, gateway.app_state.jobs.status(job)).job


def order(gateway: RunningGateway, key: str | None = None, **values: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return gateway.http.post("/v1/jobs", json=ORDER | values, headers=headers)


def remove_jobs(gateway: RunningGateway) -> None:
    """Cancel and remove all jobs."""
    while jobs := gateway.http.get("/v1/jobs").json()["jobs"]:
        for job in jobs:
            gateway.http.delete(f"/v1/jobs/{job['id']}")


def finished(gateway: RunningGateway, **values: Any) -> dict[str, Any]:
    """A job that a worker of this test has drawn."""
    job = order(gateway, **values).json()
    with drawing(gateway):
        read_events(gateway, job["id"])
    described: dict[str, Any] = gateway.http.get(f"/v1/jobs/{job['id']}").json()
    assert described["state"] == "succeeded", described
    return described


def watch(gateway: RunningGateway, job: str, last: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id or nothing, data) of each event until the stream ends."""
    headers = {} if last is None else {"Last-Event-ID": last}
    identifier = ""
    with gateway.http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                assert value == "progress"
            elif name == "data":
                data = json.loads(value)
            elif name == "id":
                identifier = value
            elif not line:
                yield identifier, data
                identifier = ""


def read_events(gateway: RunningGateway, job: str, last: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Every event until the job has ended."""
    return list(watch(gateway, job, last))
