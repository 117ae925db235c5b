"""One of several gateway processes, as service/gateway/processes.py starts it: ``python -m service.gateway.process``.

Its arguments are the number of an open socket, and a folder and a name for its metrics. Settings are read from the
environment.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvloop
from prometheus_client import values

from model.errors import InputError
from model.util.arguments import run
from model.util.files import write_atomically
from model.util.garbage import freeze_loaded
from service.runtime.logs import configure_logging
from service.runtime.redis import running_task
from service.runtime.settings import GatewaySettings, read_settings
from service.runtime.signals import on_stop_signal
from service.runtime.tracing import configure_tracing

HEARTBEAT_SECONDS = 2.0
"""Interval at which the file ``NAME.pid`` in the folder is touched."""


class _ReplacedError(Exception):
    """Another process has taken over. The service does not stop, so /readyz must not say so."""


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM. The file ``NAME.pid`` tells that requests are answered."""
    descriptor, folder, name = arguments
    # Before metrics are defined. Prometheus' client names its files by process id; by our names, a restarted process
    # continues the counters of the one that died, and files do not become more and more.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    values.ValueClass = values.MultiProcessValue(lambda: name)
    settings = read_settings(GatewaySettings, "creps gateway", "", [])
    configure_logging(settings.log_level, settings.log_format)
    configure_tracing("creps-gateway")
    with socket.socket(fileno=int(descriptor)) as listener:
        uvloop.run(_serve(settings, listener, Path(folder) / f"{name}.pid"))


async def _serve(settings: GatewaySettings, listener: socket.socket, pid_file: Path) -> None:
    from service.gateway.server import running_gateway  # defines metrics
    from service.runtime.gateway_metrics import GATEWAY_RESTARTS

    if settings.redis_url is None:
        raise InputError("redis_url", "is required")
    if pid_file.exists():  # noqa: ASYNC240 - a local file, which is removed when a process is replaced on purpose
        GATEWAY_RESTARTS.inc()
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    with suppress(_ReplacedError):
        async with running_gateway(settings, settings.redis_url, listener):
            freeze_loaded()
            write_atomically(pid_file, str(os.getpid()).encode())
            async with running_task(_heartbeat(pid_file)):
                await stopping.wait()
            if not pid_file.exists():  # noqa: ASYNC240 - a local file
                raise _ReplacedError


async def _heartbeat(pid_file: Path) -> None:
    with suppress(FileNotFoundError):  # replaced, or the parent was killed
        while True:
            os.utime(pid_file)
            await asyncio.sleep(HEARTBEAT_SECONDS)


if __name__ == "__main__":
    sys.exit(run("creps gateway", main, sys.argv[1:]))
