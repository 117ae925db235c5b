"""``creps serve``: gateway, worker and embedded queue, all in one."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from redis.exceptions import RedisError

from model.errors import InputError
from service.embedded_redis import embedded_redis
from service.gateway.server import address_of, listen, running_gateway, stop_signal
from service.logs import LogFormat, configure_logging
from service.queue import stop_task
from service.render_client import RenderClient
from service.settings import Settings, read_settings
from service.supervisor import Supervisor
from service.tracing import configure_tracing

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "service", "worker")

POLL_SECONDS = 0.2
"""Between two looks whether the worker has started."""


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and serves until SIGTERM or Ctrl-C."""
    description = "Serves pictures over HTTP: gateway, one worker and the queue between them, all in one."
    settings = read_settings("creps serve", description, arguments)
    configure_logging(settings.log_level, settings.log_format)
    configure_tracing("creps-gateway")
    with listen(settings.host, settings.port) as listener:
        asyncio.run(_run(settings, listener))


async def _run(settings: Settings, listener: socket.socket) -> None:
    """Starts queue, worker and gateway; at the end they stop in the opposite order."""
    stopping = stop_signal()
    async with AsyncExitStack() as stack:
        redis_url = settings.redis_url
        if redis_url is None:
            redis_url = await stack.enter_async_context(embedded_redis())
        # By environment, not by options: an address may hold a password, and every user sees a command line.
        os.environ |= settings.model_copy(update={"redis_url": redis_url}).to_environment()
        worker = await stack.enter_async_context(Supervisor("worker", WORKER))
        client = await stack.enter_async_context(running_gateway(settings, redis_url, listener))
        announcement = asyncio.create_task(_announce(client, address_of(listener), settings.log_format))
        stack.push_async_callback(stop_task, announcement)
        asked_to_stop = asyncio.create_task(stopping.wait())
        given_up = asyncio.create_task(worker.given_up())
        await asyncio.wait((asked_to_stop, given_up), return_when=asyncio.FIRST_COMPLETED)
        if given_up.done():
            raise InputError("worker", "cannot run as it was asked to, as it has said above")


async def _announce(client: RenderClient, address: str, log_format: LogFormat) -> None:
    """Tells the service's address once it can draw."""
    while True:
        try:
            if await client.workers():
                break
        except RedisError:
            pass  # said by the gateway
        await asyncio.sleep(POLL_SECONDS)
    if log_format == "json":  # stdout is collected like stderr
        logger.info("ready on %s", address)
    else:
        print(f"CREPS Serve is ready on {address}", flush=True)
