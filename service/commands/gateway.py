"""``creps gateway``: the HTTP gateway alone. Runs without torch."""

import asyncio
import socket
from collections.abc import Sequence

from model.errors import InputError
from service.gateway.server import address_of, listen, running_gateway, stop_signal
from service.logs import configure_logging
from service.settings import Settings, read_settings
from service.tracing import configure_tracing

OPTIONS = (
    "redis_url",
    "models",
    "model_cache",
    "model_cache_bytes",
    "host",
    "port",
    "api_keys",
    "api_keys_file",
    "cors_origins",
    "docs",
    "metrics",
    "max_image_pixels",
    "outputs",
    "max_job_pixels",
    "job_limit",
    "job_days",
    "webhook_secrets",
    "webhook_private",
    "cache_bytes",
    "answer_bytes",
    "queue_limit",
    "request_timeout",
    "root_path",
    "trusted_proxies",
    "drain_seconds",
    "log_level",
    "log_format",
)


def main(arguments: Sequence[str]) -> None:
    """Parses the command line and answers HTTP requests until SIGTERM or Ctrl-C."""
    description = "Answers HTTP requests with the pictures of workers that share its queue."
    settings = read_settings("creps gateway", description, arguments, OPTIONS)
    if settings.redis_url is None:
        raise InputError("--redis-url", "is needed to find the workers (creps serve runs all parts in one)")
    configure_logging(settings.log_level, settings.log_format)
    configure_tracing("creps-gateway")
    with listen(settings.host, settings.port) as listener:
        asyncio.run(_run(settings, settings.redis_url, listener))


async def _run(settings: Settings, redis_url: str, listener: socket.socket) -> None:
    stopping = stop_signal()
    async with running_gateway(settings, redis_url, listener):
        if settings.log_format == "text":  # else stdout, which is collected like stderr, would be no JSON
            print(f"CREPS gateway listens on {address_of(listener)}", flush=True)
        await stopping.wait()
