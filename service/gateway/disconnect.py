"""Cancels work when the HTTP client disconnects."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from service.gateway.errors import ClientDisconnectedError
from service.gateway.protocol import DISCONNECTED

Result = TypeVar("Result")


async def cancel_on_disconnect(request: Request, work: Awaitable[Result]) -> Result:
    """The result of ``work``, which is cancelled if the client closes its connection: then ClientDisconnectedError is
    raised."""
    disconnected: asyncio.Future[None] = request.scope[DISCONNECTED]
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - coroutines run in tasks
    working = True

    def cancel(_: object) -> None:
        if working:
            task.cancel()

    disconnected.add_done_callback(cancel)
    try:
        return await work
    except asyncio.CancelledError:
        if disconnected.done() and task.uncancel() == 0:
            raise ClientDisconnectedError from None
        raise
    finally:
        working = False
        disconnected.remove_done_callback(cancel)
