"""Work in threads that outlives no cancellation."""

import asyncio
from collections.abc import Callable


async def in_thread(work: Callable[[], bytes]) -> bytes:
    """Run in a thread. A cancellation waits for it: threads cannot be stopped, and its memory counts until its end."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])
