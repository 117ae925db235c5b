"""What is added in one turn of the event loop is handled together."""

import asyncio

import pytest

from service.runtime.batching import Batcher

pytestmark = pytest.mark.anyio


async def test_items_of_one_turn_are_handled_together() -> None:
    batches: list[list[int]] = []

    async def handle(items: list[int]) -> None:
        batches.append(items)

    batcher = Batcher(handle, limit=3)
    for item in range(4):
        batcher.add(item)
    await batcher.finish()
    batcher.add(4)
    await batcher.finish()
    assert batches == [[0, 1, 2], [3], [4]]


async def test_a_batch_is_handled_though_its_callers_have_left() -> None:
    started, go_on, handled = asyncio.Event(), asyncio.Event(), list[int]()

    async def handle(items: list[int]) -> None:
        started.set()
        await go_on.wait()
        handled.extend(items)

    batcher = Batcher(handle)

    async def call(item: int) -> None:
        batcher.add(item)
        await asyncio.Event().wait()

    callers = [asyncio.create_task(call(item)) for item in range(2)]
    await started.wait()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert handled == []
    go_on.set()
    await batcher.finish()
    assert handled == [0, 1]
