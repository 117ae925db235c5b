"""Jobs share the workers: what a job gets, and when it ends, with workers whose time is a number."""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from service.jobs.job import Job
from service.jobs.repository import JobRepository
from service.jobs.tile_tasks import TileTask, TileTasks
from service.queue.consumer import Consumer
from tests.service.jobs.stand_in import image_of, make_job, take_tiles

pytestmark = pytest.mark.anyio

DIGEST = "d" * 64
RATE = 1 << 16
"""Pixels that a worker renders in a second."""


@dataclass
class Cluster:
    """Workers that read batches, and settle them once their pixels are rendered.

    ``ends`` are the seconds at which jobs had succeeded.
    """

    redis: "Redis"
    jobs: dict[str, Job]
    batch: int
    ends: dict[str, float] = field(default_factory=dict)

    async def run(self, workers: int, orders: Sequence[tuple[float, Job]] = ()) -> None:
        """Until nothing is left; jobs are ordered at their seconds."""
        tasks, coming = TileTasks(self.redis), sorted(orders, key=lambda order: order[0])
        turns: list[tuple[float, int, list[TileTask]]] = [(0.0, worker, []) for worker in range(workers)]
        while turns:
            now, worker, batch = heapq.heappop(turns)
            for task in batch:
                await tasks.settle(task)
                if task.tile == self._tiles(task):
                    self.ends[task.job] = now
            while coming and coming[0][0] <= now:
                await self.order(coming.pop(0)[1])
            held = await take_tiles(self.redis, 64, self.batch, f"worker {worker}")
            pixels = sum(self._pixels(task) for task in held)
            if held or coming or any(busy for _, _, busy in turns):
                heapq.heappush(turns, (now + (max(pixels / RATE, 0.01) if held else 0.5), worker, held))

    async def order(self, job: Job) -> None:
        self.jobs[job.id] = job
        await JobRepository(self.redis).create(job)

    def _tiles(self, task: TileTask) -> int:
        return self.jobs[task.job].export.tiles

    def _pixels(self, task: TileTask) -> int:
        export = image_of(self.jobs[task.job])
        return 0 if task.tile == self._tiles(task) else math.prod(export.tile_box(task.tile)[2:])


@pytest.fixture
async def cluster(redis: "Redis") -> Cluster:
    await Consumer(redis, "worker", 1.0).join()
    return Cluster(redis, {}, batch=RATE // 2)


def seconds(job: Job) -> float:
    """Time that one worker needs for a job alone."""
    return job.export.pixels / RATE


async def test_a_small_job_does_not_wait_for_large_ones(cluster: Cluster) -> None:
    """Neither before its first tile nor before its end, wherever it stands among them."""
    large = [make_job(DIGEST, size=(1500, 1500), tile=256, number=number) for number in range(1, 4)]
    small = [make_job(DIGEST, size=(300, 300), tile=64, number=number) for number in (10, 11)]
    await cluster.order(small[0])
    for job in large:
        await cluster.order(job)
    await cluster.run(1, [(20.0, small[1])])
    assert min(cluster.ends[job.id] for job in large) > 100
    batch = 1.5  # seconds at most: half a second, and what a tile exceeds it by
    for job, begin in ((small[0], 0.0), (small[1], 20.0)):
        assert cluster.ends[job.id] - begin <= 4 * (seconds(job) + 2 * batch), cluster.ends


async def test_what_is_left_to_assemble_goes_before_tiles(redis: "Redis", cluster: Cluster) -> None:
    done, large = make_job(DIGEST, size=(64, 64), number=1), make_job(DIGEST, size=(3000, 3000), number=2)
    await cluster.order(done)
    await cluster.order(large)
    tasks = TileTasks(redis)
    while True:
        batch = await take_tiles(redis, 64)
        if batch[0].job == done.id and batch[0].tile == done.export.tiles:
            break
        for task in batch:
            await tasks.settle(task)
    status = await JobRepository(redis).status(large.id)
    assert status.done < 200 < status.total


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
async def test_every_job_gets_its_share(cluster: Cluster, seed: int) -> None:
    """However large the jobs are, whenever they come and however many workers there are, no job ends later than if it
    had shared the workers with all others from its order to its end."""
    chance = random.Random(seed)
    jobs = [
        make_job(
            DIGEST,
            size=(chance.randint(60, 500), chance.randint(60, 500)),
            tile=chance.choice([64, 96, 256]),
            number=number,
        )
        for number in range(1, chance.randint(3, 9))
    ]
    orders = [(chance.choice([0.0, chance.uniform(0, 10)]), job) for job in jobs]
    workers = chance.randint(1, 4)
    await cluster.run(workers, orders)
    assert cluster.ends.keys() == {job.id for job in jobs}
    batch = cluster.batch / RATE + 1.0
    for begin, job in orders:
        others = sum(min(seconds(other), seconds(job) + batch) for other in jobs if other is not job)
        latest = begin + (seconds(job) + others) / workers + (len(jobs) + 2) * batch
        assert cluster.ends[job.id] <= latest, (job.id, workers)


async def test_jobs_that_keep_coming_do_not_keep_a_large_one_from_the_workers(redis: "Redis", cluster: Cluster) -> None:
    large = make_job(DIGEST, size=(1000, 1000), number=1 << 100)
    await cluster.order(large)
    taken = []
    for number in range(1, 40):
        await cluster.order(make_job(DIGEST, size=(512, 512), number=number))
        taken += [task.job for task in await take_tiles(redis, 1)]
    assert taken.count(large.id) >= 5, taken
    assert len(set(taken)) > 15


async def test_jobs_that_an_earlier_version_has_queued_in_part_go_on(redis: "Redis", cluster: Cluster) -> None:
    """It has queued a window of tiles when it created the job, and knows no list of waiting jobs."""
    job = make_job(DIGEST, size=(600, 600))
    await cluster.order(job)
    held = await take_tiles(redis, 5)
    await redis.delete("creps:jobs:waiting")
    await TileTasks(redis).settle(held.pop())
    await cluster.run(1)
    status = await JobRepository(redis).status(job.id)
    assert (status.state, status.total - status.done) == ("running", len(held))
