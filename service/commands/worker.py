"""``creps worker``: one render worker, or one for each GPU, on any host that reaches Redis."""

import asyncio
import logging
import os
from collections.abc import Sequence
from functools import partial

import uvloop

from model.errors import InputError
from model.util.garbage import freeze_loaded
from service.imaging.object_store import open_store
from service.models.bucket_sync import open_catalog
from service.runtime.logs import configure_logging
from service.runtime.redis import connect
from service.runtime.settings import MAX_PORT, WorkerSettings, read_settings, warn_of_mistyped_variables
from service.runtime.signals import on_stop_signal
from service.runtime.tracing import configure_tracing
from service.worker.gpu_metrics import register_gpu_memory
from service.worker.health_server import HealthServer
from service.worker.model_cache import CPU_BYTES
from service.worker.multi_gpu import choose_gpus, run_workers
from service.worker.render_executor import DeviceLostError

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 25.0
"""Time limit from SIGTERM to the end; Kubernetes kills after 30 s."""


def main(arguments: Sequence[str]) -> None:
    """Process the queue until SIGTERM or SIGINT, then finish the current requests. Raises InputError."""
    description = "Renders the images and tiles that gateways queue."
    settings = read_settings(WorkerSettings, "creps worker", description, arguments)
    configure_logging(settings.log_level, settings.log_format)
    warn_of_mistyped_variables()
    configure_tracing("creps-worker")
    if settings.redis_url is None:
        raise InputError("--redis-url", "is required: the Redis server of the gateway (creps serve embeds one)")
    if settings.gpus is not None:
        uvloop.run(_run_group(settings, settings.gpus))
    else:
        port = None
        if settings.metrics_port is not None:
            port = HealthServer(settings.metrics_port)
            logger.info("metrics on port %d", port.port)
        try:
            uvloop.run(_run(settings, settings.redis_url, port))
        except DeviceLostError:
            os._exit(1)  # without CUDA's destructors, which may hang; the supervisor or Kubernetes starts a new worker


async def _run_group(settings: WorkerSettings, gpus: str) -> None:
    import torch  # takes seconds

    devices = choose_gpus(gpus, torch.cuda.device_count())
    if settings.metrics_port is not None and not 0 < settings.metrics_port <= MAX_PORT + 1 - len(devices):
        raise InputError("--metrics-port", f"must leave {len(devices)} ports up to {MAX_PORT}, one for each GPU")
    # In the environment, because a Redis URL may contain a password and command lines are visible to all users.
    os.environ |= settings.to_environment()
    del os.environ["CREPS_GPUS"]
    stopping = asyncio.Event()
    on_stop_signal(stopping.set)
    await run_workers(devices, settings.metrics_port, stopping)


async def _run(settings: WorkerSettings, redis_url: str, port: HealthServer | None) -> None:
    store = open_store(settings.outputs)
    async with connect(redis_url) as redis, open_catalog(settings) as catalog:
        logger.info("starting a worker")
        import torch  # takes seconds

        from kernels.renderer import Renderer
        from model.util.device import find_device, installed_memory
        from service.worker.worker import CPU_BATCH, GPU_BATCH, Worker

        device = find_device(settings.device)
        memory = installed_memory(device) // 2 if device.type == "cuda" else CPU_BYTES
        if device.type == "cuda":
            register_gpu_memory(torch.cuda, str(device))
        worker = Worker(
            redis,
            catalog,
            lambda checkpoint: Renderer(checkpoint, str(device)),
            store,
            device=str(device),
            batch_limit=settings.batch_limit or (GPU_BATCH if device.type == "cuda" else CPU_BATCH),
            model_bytes=settings.model_bytes or memory,
            synchronize=partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None,
        )
        if port is not None:
            port.unhealthy_reason = lambda: worker.unhealthy_reason

        def stop() -> None:
            worker.stop()
            asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT, _give_up)

        on_stop_signal(stop)
        freeze_loaded()
        await worker.run()


def _give_up() -> None:
    """A rendering thread cannot be stopped otherwise. Other workers claim the remaining requests."""
    logger.error("not finished within %g s, leaving the rest to other workers", SHUTDOWN_TIMEOUT)
    os._exit(1)
