"""``creps serve``: gateway, worker, embedded Redis and embedded image cache together."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack

import uvloop
from redis.exceptions import RedisError

from model.errors import InputError
from model.util.garbage import freeze_loaded
from service.gateway.processes import GatewayProcesses, listen_together
from service.gateway.server import address_of, listen, running_gateway
from service.queue.messages import live_workers
from service.runtime.embedded_redis import embedded_cache, embedded_redis
from service.runtime.logs import LogFormat, configure_logging
from service.runtime.redis import connect, running_task
from service.runtime.settings import Settings, read_settings, warn_of_mistyped_variables
from service.runtime.signals import on_stop_signal
from service.runtime.supervisor import Supervisor
from service.runtime.tracing import configure_tracing
from service.worker.multi_gpu import WORKER

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Interval between two checks whether the worker has started."""


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    description = "Serves images over HTTP: runs the gateway, a worker, their queue and an image cache."
    settings = read_settings(Settings, "creps serve", description, arguments)
    configure_logging(settings.log_level, settings.log_format)
    warn_of_mistyped_variables()
    if settings.processes > 1:
        listeners = listen_together(settings.host, settings.port, settings.processes)
    else:
        configure_tracing("creps-gateway")
        listeners = [listen(settings.host, settings.port)]
    with ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        uvloop.run(_run(settings, listeners))


async def _run(settings: Settings, listeners: Sequence[socket.socket]) -> None:
    """Start Redis, image cache, worker and gateway; stop them in reverse order."""
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    async with AsyncExitStack() as stack:
        redis_url = settings.redis_url
        if redis_url is None:
            redis_url = await stack.enter_async_context(embedded_redis())
        if settings.cache_url is None and settings.cache_bytes:
            try:
                cache_url = await stack.enter_async_context(embedded_cache(settings.cache_bytes))
                settings = settings.model_copy(update={"cache_url": cache_url})
            except InputError as error:
                logger.warning("images are not cached: %s", error)
        # In the environment, because a Redis URL may contain a password and command lines are visible to all users.
        os.environ |= settings.model_copy(update={"redis_url": redis_url}).to_environment()
        worker = await stack.enter_async_context(Supervisor("worker", WORKER))
        ends = {"worker": asyncio.create_task(worker.given_up())}
        if len(listeners) == 1:
            await stack.enter_async_context(running_gateway(settings, redis_url, listeners[0]))
            freeze_loaded()
        else:
            processes = await stack.enter_async_context(GatewayProcesses(settings, redis_url, listeners))
            ends["gateway"] = asyncio.create_task(processes.given_up())
        announcement = _announce(redis_url, address_of(listeners[0]), settings.log_format)
        await stack.enter_async_context(running_task(announcement))
        asked_to_stop = asyncio.create_task(stopping.wait())
        await asyncio.wait((asked_to_stop, *ends.values()), return_when=asyncio.FIRST_COMPLETED)
        for name, given_up in ends.items():
            if given_up.done():
                raise InputError(name, "cannot run with these settings; see its error above")
            given_up.cancel()


async def _announce(redis_url: str, address: str, log_format: LogFormat) -> None:
    """Print the service's address once a worker is ready."""
    async with connect(redis_url) as redis:
        while True:
            try:
                if await live_workers(redis):
                    break
            except RedisError:
                pass  # logged by the gateway
            await asyncio.sleep(POLL_SECONDS)
    if log_format == "json":  # stdout is collected like stderr
        logger.info("ready on %s", address)
    else:
        print(f"CREPS Serve is ready on {address}", flush=True)
