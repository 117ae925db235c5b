"""``creps worker``: one render worker. Start as many as there are devices, on any host that reaches the queue."""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, start_http_server

from model.errors import InputError
from service.catalog import Catalog
from service.gpu_memory import GpuMemory
from service.logs import configure_logging
from service.outputs.store import open_shared_store
from service.queue import connect
from service.settings import Settings, read_settings
from service.tracing import configure_tracing

if TYPE_CHECKING:
    from service.worker import Worker

logger = logging.getLogger(__name__)

OPTIONS = ("redis_url", "models", "device", "batch_limit", "outputs", "metrics_port", "log_level", "log_format")

GRACE_SECONDS = 25.0
"""From SIGTERM to the end at the latest; Kubernetes kills after 30 s."""


def main(arguments: Sequence[str]) -> None:
    """Serves the queue until SIGTERM or SIGINT, then finishes what it holds.

    Raises:
        InputError: a setting cannot be used.
    """
    settings = read_settings("creps worker", "Renders the pictures and tiles that gateways queue.", arguments, OPTIONS)
    configure_logging(settings.log_level, settings.log_format)
    configure_tracing("creps-worker")
    if settings.redis_url is None:
        raise InputError("--redis-url", "is needed: the queue's server, as the gateway has it (creps serve embeds one)")
    if settings.metrics_port is not None:
        _serve_metrics(settings.metrics_port)
    asyncio.run(_run(settings, settings.redis_url))


def _serve_metrics(port: int) -> None:
    try:
        server, _ = start_http_server(port)
    except OSError as error:
        raise InputError("--metrics-port", f"{port} cannot be listened on: {error.strerror}") from None
    logger.info("metrics on port %d", server.server_port)


async def _run(settings: Settings, redis_url: str) -> None:
    store = open_shared_store(settings.outputs)
    async with connect(redis_url) as redis:
        logger.info("starting a worker")
        import torch  # takes seconds

        from kernels.renderer import Renderer
        from model.device import find_device
        from service.worker import Worker

        device = str(find_device(settings.device))
        if device.startswith("cuda"):
            REGISTRY.register(GpuMemory(torch.cuda, device))
        worker = Worker(
            redis,
            Catalog(settings.models),
            lambda checkpoint: Renderer(checkpoint, device),
            store,
            device=device,
            batch_limit=settings.batch_limit,
        )
        _stop_at_signals(worker)
        await worker.run()


def _stop_at_signals(worker: "Worker") -> None:
    loop = asyncio.get_running_loop()

    def stop(name: str) -> None:
        logger.info("%s: finishing what is held", name)
        worker.stop()
        loop.call_later(GRACE_SECONDS, _give_up)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)


def _give_up() -> None:
    """A thread that renders cannot be stopped otherwise. Other workers take over what is left."""
    logger.error("not finished within %g s, leaving the rest to other workers", GRACE_SECONDS)
    os._exit(1)
