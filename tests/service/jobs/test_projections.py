"""Projections in a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.jobs.projections import Projection, ProjectionRepository
from service.jobs.repository import TooManyJobsError
from service.runtime.embedded_redis import embedded_redis
from service.runtime.redis import connect
from service.runtime.redis_keys import projection_key

pytestmark = pytest.mark.anyio


@pytest.fixture
async def repository() -> AsyncIterator[ProjectionRepository]:
    async with embedded_redis() as url, connect(url) as redis:
        yield ProjectionRepository(redis, days=1)


def projection(number: int) -> Projection:
    return Projection(f"{number:032x}", "0" * 64, "demo", 10, None, float(number))


async def test_orders_at_once_do_not_exceed_the_limit(repository: ProjectionRepository) -> None:
    orders = (repository.create(projection(number), 3) for number in range(10))
    answers = await asyncio.gather(*orders, return_exceptions=True)
    assert sum(answer is None for answer in answers) == 3
    assert all(isinstance(answer, TooManyJobsError) for answer in answers if answer is not None)


async def test_one_that_is_cancelled_while_a_worker_claims_it_stays_so(
    repository: ProjectionRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    await repository.create(projection(1), 3)
    redis = repository._redis
    lock = redis.set

    async def lock_and_cancel(*arguments: object, **options: object) -> object:
        locked = await lock(*arguments, **options)  # type: ignore[arg-type]
        assert await repository.end(projection(1).id, "cancelled")
        return locked

    monkeypatch.setattr(redis, "set", lock_and_cancel)
    assert await repository.claim(30) is None
    assert (await repository.status(projection(1).id)).state == "cancelled"


async def test_attempts_are_counted(repository: ProjectionRepository) -> None:
    await repository.create(projection(1), 3)
    for attempt in (1, 2, 3):
        assert await repository.claim(30) == (projection(1), attempt)
        assert await repository.claim(30) is None  # it is locked
        await repository._redis.delete(f"{projection_key(projection(1).id)}:lock")  # its worker is dead
    assert await repository.claim(30) == (projection(1), 4)
    await repository.release(projection(1).id)  # by a worker that stops
    assert await repository.claim(30) == (projection(1), 4)
