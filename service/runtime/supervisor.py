"""Child processes that are restarted when they die, and that never outlive their parent."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from typing import Self

logger = logging.getLogger(__name__)

BAD_INPUT = 2
"""Exit status of a child with invalid input. It is not restarted."""

MIN_DELAY, MAX_DELAY = 0.25, 15.0
"""Seconds before a restart, doubled from one death to the next."""

STEADY_SECONDS = 30.0
"""After that time the delay begins with MIN_DELAY again."""

_GUARD = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG: SIGTERM when the parent dies
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent died while this process was started")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Replaces itself by the child. It is not a preexec_fn, which may deadlock where there are threads."""


def guarded(command: Sequence[str]) -> tuple[str, ...]:
    """The command of a child that is stopped when this process dies."""
    return (sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command)


class Supervisor:
    """Keeps a child process running during an ``async with`` block, or from ``start`` to ``stop``.

    The child inherits the environment, to which ``environment`` is added, and the file descriptors ``pass_fds``. It has
    a session of its own: Ctrl-C in a terminal reaches only the parent, which stops its children in order, each within
    ``grace`` seconds. Linux kills the child when the *thread* that started it ends, so that thread must last as long.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        grace: float = 30.0,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._name = name
        self._command = command
        self._grace = grace
        self._environment = environment or {}
        self._pass_fds = pass_fds

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._process = await self._start()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds."""
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), self._grace)
        except TimeoutError:
            logger.error("%s did not stop within %g s and is killed", self._name, self._grace)
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while it is not running."""
        return self._process.pid if self._process.returncode is None else None

    @property
    def has_given_up(self) -> bool:
        """Whether the child has exited with status 2."""
        return self._process.returncode == BAD_INPUT

    async def given_up(self) -> None:
        """Returns when the child has exited with status 2. It has explained the reason on stderr."""
        await asyncio.shield(self._keeper)

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *guarded(self._command),
            stdin=DEVNULL,
            start_new_session=True,
            env={**os.environ, **self._environment},
            pass_fds=self._pass_fds,
        )
        logger.info("%s started as process %d", self._name, process.pid)
        return process

    async def _keep(self) -> None:
        delay = MIN_DELAY
        while True:
            started = time.monotonic()
            status = await self._process.wait()
            if status == BAD_INPUT:
                logger.error("%s cannot run with its settings", self._name)
                return
            if time.monotonic() - started >= STEADY_SECONDS:
                delay = MIN_DELAY
            logger.error("%s ended with status %d, restart in %g s", self._name, status, delay)
            while True:
                await asyncio.sleep(delay)
                delay = min(2 * delay, MAX_DELAY)
                try:
                    self._process = await self._start()
                    break
                except OSError as error:  # out of memory or processes
                    logger.error("%s cannot be started (%s), next attempt in %g s", self._name, error, delay)
