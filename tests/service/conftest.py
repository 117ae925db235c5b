"""Fixtures of the service's tests: a real queue server for each."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from service import queue
from service.embedded_redis import embedded_redis
from service.queue import connect
from tests.service.waiting import LONG


@pytest.fixture(scope="session", autouse=True)
def _outputs_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Services that tests start make their folder of outputs not here."""
    os.environ.setdefault("CREPS_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="session", autouse=True)
def _patience_with_redis() -> Iterator[None]:
    """A Redis that the system does not run for some seconds, or a test process, is no outage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue, "ANSWER_SECONDS", LONG)
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def redis_url() -> AsyncIterator[str]:
    async with embedded_redis() as url:
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    async with connect(redis_url) as client:
        yield client
