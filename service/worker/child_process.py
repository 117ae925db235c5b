"""Long computations in processes of their own, so that rendering goes on meanwhile."""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator

from service.runtime.supervisor import guarded

MAX_LINE = 1 << 22
"""Bytes of one line that a child prints."""


async def run_module(module: str, *arguments: str) -> AsyncGenerator[bytes]:
    """Run ``python -m MODULE`` on the CPU, and yield the lines that it prints. It is killed if the generator is closed.

    Raises RuntimeError if its exit status is not 0.
    """
    command = guarded([sys.executable, "-m", module, *arguments])
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # the GPU renders
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, limit=MAX_LINE, env=environment
    )
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        async for line in process.stdout:
            yield line
        if status := await process.wait():
            raise RuntimeError(f"{module} ended with status {status}")
    finally:
        if process.returncode is None:
            process.kill()
        ending = asyncio.gather(process.stdout.read(), process.wait())  # the end of its output closes the pipe
        while not ending.done():  # which takes no time; service.runtime.redis.stop_task cancels again and again
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
