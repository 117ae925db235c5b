"""A worker's search for directions: in a real process, with a real Redis and store."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import obstore
import pytest
from obstore.store import LocalStore

from model.checkpoint import Checkpoint
from model.latents.direction import Direction, decode_directions, encode_directions
from model.latents.directions import find_directions
from service.models.catalog import Catalog
from service.queue.directions import DirectionRequests, directions_path
from service.runtime.embedded_redis import embedded_redis
from service.runtime.redis import connect, running_task
from service.worker import direction_finder
from service.worker.direction_finder import DirectionFinder
from tests.kernels.networks import TINY, random_checkpoint
from tests.service.waiting import LONG


async def stand_in(module: str, path: str, digest: str, output: str) -> AsyncGenerator[bytes]:
    """In place of the process, which takes seconds: one direction."""
    assert (module, Checkpoint.open(Path(path)).digest) == ("service.worker.find_directions", digest)
    direction = Direction("sefa:0", (1,), np.eye(TINY.w_dim)[0], 1.0)
    Path(output).write_bytes(encode_directions([direction], TINY))  # noqa: ASYNC240 - a small file
    yield b"a line of its output\n"


@pytest.mark.anyio
async def test_directions_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direction_finder, "run_module", stand_in)
    _, found = await search(tmp_path, monkeypatch)
    assert list(found) == ["sefa:0"]


@pytest.mark.slow
@pytest.mark.anyio
async def test_directions_are_found_in_a_process_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, found = await search(tmp_path, monkeypatch)
    expected = await asyncio.to_thread(lambda: find_directions(checkpoint.load()))
    assert list(found) == [direction.name for direction in expected]


async def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Checkpoint, dict[str, Direction]]:
    """Asks for the directions of a model, and of one that there is not."""
    monkeypatch.setattr(direction_finder, "POLL_SECONDS", 0.02)
    models, outputs = tmp_path / "models", tmp_path / "outputs"
    models.mkdir()
    checkpoint, store = random_checkpoint(models), LocalStore(prefix=outputs, mkdir=True)
    path = directions_path(checkpoint.digest)
    async with embedded_redis() as url, connect(url) as redis:
        requests = DirectionRequests(redis)
        finder = DirectionFinder(redis, Catalog(models, demo=models / "none"), store, "worker")
        async with asyncio.timeout(20 * LONG), running_task(finder.run()):
            await requests.add(checkpoint.digest)
            await requests.add("0" * 64)  # not served
            while await redis.hlen("creps:directions:wanted"):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)
        assert not await requests.add("0" * 64)
        assert await requests.add(checkpoint.digest)
    content = bytes(await (await obstore.get_async(store, path)).bytes_async())
    return checkpoint, decode_directions(content, checkpoint.config)
