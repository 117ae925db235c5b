"""Several gateway processes on one port, for ``creps gateway --processes N`` and ``creps serve --processes N``."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from service.gateway.api_keys import check_keys
from service.gateway.server import DRAIN_TIMEOUT, listen
from service.runtime.redis import stop_task
from service.runtime.settings import GatewaySettings
from service.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)

STALL_TIMEOUT = 60.0
"""Seconds without a heartbeat after which a process is killed: its event loop is blocked."""

KILL_TIMEOUT = DRAIN_TIMEOUT + 4.0
"""Seconds from the end of draining to SIGKILL: less than the 25 s that docs/operations.md states."""

MIN_ANSWER_BYTES = 2**20
"""The setting's own minimum."""

POLL_SECONDS = 0.1


def listen_together(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets that listen on one port, among which Linux distributes connections evenly. Raises InputError.

    A single socket for all processes would not do: the first that wakes up may accept all connections of a burst.
    """
    # Another service of this user may have opened the port in the same way. The first socket would not tell.
    with listen(host, port) as free:
        port = free.getsockname()[1]
    return [listen(host, port, reuse_port=True) for _ in range(count)]


class GatewayProcesses:
    """Keeps a gateway process running for each listener during an ``async with`` block, and drains them at its end.

    A process that dies or hangs is replaced. Its connections wait at its listener, which this process keeps open.
    SIGHUP replaces all processes one after the other: each is drained once its successor serves the same listener.
    Raises InputError if the file of API keys is invalid, which else each process would tell.
    """

    def __init__(self, settings: GatewaySettings, redis_url: str, listeners: Sequence[socket.socket]) -> None:
        if settings.api_keys_file is not None:
            check_keys(settings.api_keys_file)
        self._settings = settings
        self._listeners = listeners
        self._environment = _environment(settings, redis_url, len(listeners))
        self._asked_to_restart = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="creps-gateway-")
        self._processes = [self._process(number, "a") for number in range(len(self._listeners))]
        for process in self._processes:
            await process.start()
        self._tasks = [asyncio.create_task(work) for work in (self._restart_at_signal(), self._kill_stalled())]
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked_to_restart.set)
        return self

    async def __aexit__(self, *error: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        for task in self._tasks:
            await stop_task(task)
        for listener in self._listeners:
            listener.close()
        await asyncio.gather(*(process.stop() for process in self._processes))
        self._folder.cleanup()

    async def ready(self) -> None:
        """Returns when all processes answer requests."""
        await _until(lambda: all(process.is_ready for process in self._processes))

    async def given_up(self) -> None:
        """Returns when a process has exited with status 2. It has explained the reason on stderr."""
        await _until(lambda: any(process.has_given_up for process in self._processes))

    def _process(self, number: int, generation: str) -> "_Process":
        grace = self._settings.drain_seconds + KILL_TIMEOUT
        return _Process(number, generation, self._listeners[number], Path(self._folder.name), self._environment, grace)

    async def _restart_at_signal(self) -> None:
        while True:
            await self._asked_to_restart.wait()
            self._asked_to_restart.clear()
            logger.info("replacing %d processes", len(self._processes))
            for number, old in enumerate(self._processes):
                new = self._process(number, "b" if old.generation == "a" else "a")
                await new.start()
                try:
                    await _until(lambda new=new: new.is_ready or new.has_given_up)  # type: ignore[misc]
                except asyncio.CancelledError:
                    await new.stop()
                    raise
                if new.has_given_up:
                    logger.error("the processes that run are kept")
                    break
                self._processes[number] = new
                old.pid_file.unlink(missing_ok=True)  # tells it that it has been replaced
                await old.stop()

    async def _kill_stalled(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for process in self._processes:
                process.kill_if_stalled()


class _Process(Supervisor):
    """One of the processes, and the file by which it tells that it serves.

    ``generation`` distinguishes it from the process that it replaces: both write metrics while one is drained.
    """

    def __init__(
        self,
        number: int,
        generation: str,
        listener: socket.socket,
        folder: Path,
        environment: dict[str, str],
        grace: float,
    ) -> None:
        name, descriptor = f"{number + 1}{generation}", listener.fileno()
        self.generation = generation
        self.pid_file = folder / f"{name}.pid"
        command = (sys.executable, "-m", "service.gateway.process", str(descriptor), str(folder), name)
        super().__init__(f"gateway process {number + 1}", command, grace, environment, (descriptor,))

    @property
    def is_ready(self) -> bool:
        return self.pid is not None and self._heartbeat_of(self.pid) is not None

    def kill_if_stalled(self) -> None:
        pid = self.pid
        if pid is None:
            return
        heartbeat = self._heartbeat_of(pid)
        if heartbeat is not None and time.time() - heartbeat > STALL_TIMEOUT:
            logger.error("process %d has not answered for %g s and is killed", pid, STALL_TIMEOUT)
            os.kill(pid, signal.SIGKILL)

    def _heartbeat_of(self, pid: int) -> float | None:
        """Time of the last sign of this process; None before it serves."""
        try:
            return self.pid_file.stat().st_mtime if self.pid_file.read_text() == str(pid) else None
        except FileNotFoundError:
            return None


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(POLL_SECONDS)


def _environment(settings: GatewaySettings, redis_url: str, count: int) -> dict[str, str]:
    """The settings for one of the processes. Limits that are held in memory are divided among them."""
    answer_bytes = max(settings.answer_bytes // count, MIN_ANSWER_BYTES)
    own = settings.model_copy(update={"redis_url": redis_url, "processes": 1, "answer_bytes": answer_bytes})
    secrets = {"CREPS_API_KEYS": settings.api_keys, "CREPS_WEBHOOK_SECRETS": settings.webhook_secrets}
    return own.to_environment() | {
        name: ",".join(secret.get_secret_value() for secret in given) for name, given in secrets.items()
    }
