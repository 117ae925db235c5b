"""Fixtures of the service's tests: one real Redis for the test process, emptied for each test."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from redis.asyncio import Redis

from service.runtime import redis as redis_module
from service.runtime import supervisor
from service.runtime.embedded_redis import embedded_redis
from service.runtime.redis import connect
from tests.service.waiting import LONG, answers, eventually


@pytest.fixture(scope="session", autouse=True)
def _outputs_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps outputs of services that tests start out of the working directory."""
    os.environ.setdefault("CREPS_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="session", autouse=True)
def _patience_with_redis() -> Iterator[None]:
    """Redis, or a test process, may stand still for seconds on a busy machine. That is no outage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_module, "REDIS_TIMEOUT", LONG)
        patch.setattr(redis_module, "CONNECT_TIMEOUT", LONG)
        patch.setattr(supervisor, "MAX_DELAY", supervisor.MIN_DELAY)  # tests kill Redis one after the other
        yield


@pytest.fixture(scope="session")
def redis_server(_patience_with_redis: None) -> Iterator[str]:
    """The address of a server that this test process shares, started again at once when a test kills it.

    A thread of its own runs it, since each test has its own event loop.
    """
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(embedded_redis()) as url:
        yield url


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def redis_url(redis_server: str) -> str:
    """The address of an empty server."""
    async with connect(redis_server) as client:
        await eventually(lambda: answers(client))
        await client.flushall()
        await client.config_resetstat()
    return redis_server


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["Redis"]:
    async with connect(redis_url) as client:
        yield client
