"""``creps worker``: one render worker, or one for each GPU, on any host that reaches the queue."""

import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY

from model.errors import InputError
from service.gpu_memory import GpuMemory
from service.loaded_models import CPU_BYTES
from service.logs import configure_logging
from service.mirror import open_catalog
from service.outputs.store import open_shared_store
from service.queue import connect
from service.settings import MAX_PORT, Settings, read_settings
from service.tracing import configure_tracing
from service.worker_group import choose_gpus, run_workers
from service.worker_port import WorkerPort

if TYPE_CHECKING:
    from service.worker import Worker

logger = logging.getLogger(__name__)

OPTIONS = (
    "redis_url",
    "models",
    "model_cache",
    "model_cache_bytes",
    "model_bytes",
    "device",
    "gpus",
    "batch_limit",
    "outputs",
    "metrics_port",
    "log_level",
    "log_format",
)

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
    if settings.gpus is not None:
        asyncio.run(_run_group(settings, settings.gpus))
    else:
        port = None
        if settings.metrics_port is not None:
            port = WorkerPort(settings.metrics_port)
            logger.info("metrics on port %d", port.port)
        asyncio.run(_run(settings, settings.redis_url, port))


async def _run_group(settings: Settings, gpus: str) -> None:
    import torch  # takes seconds

    devices = choose_gpus(gpus, torch.cuda.device_count())
    if settings.metrics_port is not None and not 0 < settings.metrics_port <= MAX_PORT + 1 - len(devices):
        raise InputError("--metrics-port", f"must leave {len(devices)} ports up to {MAX_PORT}, one for each GPU")
    # By environment, not by options: an address may hold a password, and every user sees a command line.
    os.environ |= settings.to_environment()
    del os.environ["CREPS_GPUS"]
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await run_workers(devices, settings.metrics_port, stopping)


async def _run(settings: Settings, redis_url: str, port: WorkerPort | None) -> None:
    store = open_shared_store(settings.outputs)
    async with connect(redis_url) as redis, open_catalog(settings) as catalog:
        logger.info("starting a worker")
        import torch  # takes seconds

        from kernels.renderer import Renderer
        from model.device import find_device, installed_memory
        from service.worker import Worker

        device = find_device(settings.device)
        memory = installed_memory(device) // 2 if device.type == "cuda" else CPU_BYTES
        if device.type == "cuda":
            REGISTRY.register(GpuMemory(torch.cuda, str(device)))
        worker = Worker(
            redis,
            catalog,
            lambda checkpoint: Renderer(checkpoint, str(device)),
            store,
            device=str(device),
            batch_limit=settings.batch_limit,
            model_bytes=settings.model_bytes or memory,
        )
        if port is not None:
            port.trouble = lambda: worker.trouble
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
