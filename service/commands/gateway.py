"""``creps gateway``: the HTTP gateway alone. Runs without torch."""

import asyncio
import logging
import socket
from collections.abc import Sequence

import uvloop

from model.errors import InputError
from model.util.garbage import freeze_loaded
from service.gateway.processes import GatewayProcesses, listen_together
from service.gateway.server import address_of, listen, running_gateway
from service.runtime.logs import configure_logging
from service.runtime.redis import running_task
from service.runtime.settings import GatewaySettings, read_settings, warn_of_mistyped_variables
from service.runtime.signals import on_stop_signal
from service.runtime.tracing import configure_tracing

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Serve HTTP requests until SIGTERM or Ctrl-C."""
    description = "Serves images over HTTP that workers on the same queue render."
    settings = read_settings(GatewaySettings, "creps gateway", description, arguments)
    configure_logging(settings.log_level, settings.log_format)
    warn_of_mistyped_variables()
    if settings.redis_url is None:
        raise InputError("--redis-url", "is required to reach the workers (creps serve runs all parts together)")
    if settings.processes > 1:
        listeners = listen_together(settings.host, settings.port, settings.processes)
        uvloop.run(_run_processes(settings, settings.redis_url, listeners))
        return
    configure_tracing("creps-gateway")
    with listen(settings.host, settings.port) as listener:
        uvloop.run(_run(settings, settings.redis_url, listener))


async def _run(settings: GatewaySettings, redis_url: str, listener: socket.socket) -> None:
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    async with running_gateway(settings, redis_url, listener):
        freeze_loaded()
        _announce(settings, listener)
        await stopping.wait()


async def _run_processes(settings: GatewaySettings, redis_url: str, listeners: list[socket.socket]) -> None:
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)

    async def announce() -> None:
        await processes.ready()
        _announce(settings, listeners[0])

    async with GatewayProcesses(settings, redis_url, listeners) as processes, running_task(announce()):
        asked_to_stop = asyncio.create_task(stopping.wait())
        given_up = asyncio.create_task(processes.given_up())
        await asyncio.wait((asked_to_stop, given_up), return_when=asyncio.FIRST_COMPLETED)
        if given_up.done():
            raise InputError("processes", "cannot run with these settings; see the error above")
        given_up.cancel()


def _announce(settings: GatewaySettings, listener: socket.socket) -> None:
    if settings.log_format == "json":  # stdout may be collected as JSON, too
        logger.info("the gateway listens on %s", address_of(listener))
    else:
        print(f"CREPS gateway listens on {address_of(listener)}", flush=True)
