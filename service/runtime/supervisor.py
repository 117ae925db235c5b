"""Child processes that are started again when they die, and that never outlive their parent."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Sequence
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

BAD_INPUT = 2
"""Exit status of a child that met what a user must mend: starting it again would not help."""

MIN_DELAY, MAX_DELAY = 0.25, 15.0
"""Seconds between a child's death and its next start, doubled from one death to the next."""

STEADY_SECONDS = 30.0
"""A child that has run so long was healthy: its death counts as the first again."""

_GUARD = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG: SIGTERM when the parent dies
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent died while this process was started")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes the child. A program of its own: Python code between fork and exec may deadlock where there are threads."""


class Supervisor:
    """Keeps one child process running while its ``async with`` block runs.

    The child leads a session of its own, so that Ctrl-C in a terminal reaches the parent alone, which then stops its
    children in order. Linux ties a child's life to the *thread* that started it: use this in the main thread.

    Args:
        name: what logs call the child.
        command: absolute path of the program, and its arguments.
        grace: seconds from SIGTERM to SIGKILL when the block ends.
    """

    def __init__(self, name: str, command: Sequence[str], grace: float = 30.0) -> None:
        self._name = name
        self._command = command
        self._grace = grace
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        process = await self._start()
        self._keeper = asyncio.create_task(self._keep(process))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        await self._stop()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def given_up(self) -> None:
        """Returns once the child has exited with status 2, which it explained on stderr, and is not started again."""
        await asyncio.shield(self._keeper)

    async def _start(self) -> Process:
        guard = (sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()))
        process = await asyncio.create_subprocess_exec(*guard, *self._command, stdin=DEVNULL, start_new_session=True)
        self._process = process
        logger.info("%s started as process %d", self._name, process.pid)
        return process

    async def _keep(self, process: Process) -> None:
        delay = MIN_DELAY
        while True:
            started = time.monotonic()
            status = await process.wait()
            if status == BAD_INPUT:
                logger.error("%s cannot run as it was asked to", self._name)
                return
            if time.monotonic() - started >= STEADY_SECONDS:
                delay = MIN_DELAY
            logger.error("%s ended with status %d, starts again in %g s", self._name, status, delay)
            while True:
                await asyncio.sleep(delay)
                delay = min(2 * delay, MAX_DELAY)
                try:
                    process = await self._start()
                    break
                except OSError as error:  # no memory or process to be had
                    logger.error("%s cannot be started (%s), is tried again in %g s", self._name, error, delay)

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._grace)
        except TimeoutError:
            logger.error("%s did not stop within %g s and is killed", self._name, self._grace)
            process.kill()
            await process.wait()
