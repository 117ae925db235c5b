"""The gateway as a running HTTP server: start, draining, shutdown."""

import asyncio
import logging
import socket
from asyncio import sleep
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from model.errors import InputError
from service.gateway.app import create_app
from service.gateway.image_cache import open_image_cache
from service.gateway.protocol import SEND_TIMEOUT, HTTPProtocol
from service.gateway.state import AppState
from service.gateway.webhooks import Webhooks
from service.imaging.object_store import open_store
from service.jobs.reconciler import Reconciler
from service.models.bucket_sync import open_catalog
from service.queue.client import RenderClient
from service.runtime.redis import connect, running_task
from service.runtime.settings import GatewaySettings

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the system accepts while the process is busy."""

FIRST_REQUEST_POLLS = 100
"""Hundredths of a second at shutdown for the first request of a connection."""

DRAIN_TIMEOUT = 20
"""Seconds for the responses in progress at shutdown."""

CANCEL_TIMEOUT = 2
"""Seconds after that for the 503 of requests that took too long."""


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening socket, where connections wait for the server to start. Raises InputError if it cannot be opened.

    ``::`` listens on IPv6 and IPv4, or on IPv4 alone where the system has no IPv6. A name with addresses of both
    families listens on the IPv4 one. With ``reuse_port`` this user may open further sockets on the port.
    """
    dual_stack = socket.has_dualstack_ipv6()
    try:
        family, *_, address = min(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        if address[0] == "::" and not dual_stack:
            family, address = socket.AF_INET, ("0.0.0.0", port)  # noqa: S104 - as asked
        listener = socket.create_server(
            address,
            family=family,
            backlog=BACKLOG,
            reuse_port=reuse_port,
            dualstack_ipv6=dual_stack and address[0] == "::",
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (while")[0]  # the rest repeats the address
        raise InputError("port", f"cannot listen on {host} port {port}: {reason}") from None
    # Connections inherit both options. asyncio only sets TCP_NODELAY for sockets that name their protocol; without it
    # each response on a kept-alive connection waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux. It also drops clients that read nothing of a finished response.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * SEND_TIMEOUT))
    return listener


def address_of(listener: socket.socket) -> str:
    """The http:// address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def running_gateway(
    settings: GatewaySettings, redis_url: str, listener: socket.socket
) -> AsyncIterator[RenderClient]:
    """Serve HTTP requests on ``listener`` while the block runs; yields the gateway's queue client.

    At the end /readyz answers 503 for ``drain_seconds``, while everything else is still served. Then no new connections
    are accepted, event streams end, and responses in progress get up to DRAIN_TIMEOUT.
    """
    outputs = open_store(settings.outputs)
    async with (
        connect(redis_url) as redis,
        RenderClient(redis, settings.queue_limit) as client,
        open_catalog(settings) as catalog,
        open_image_cache(settings.cache_url) as cache,
    ):
        app_state = AppState(settings, redis, client, catalog, outputs, cache)
        app = create_app(app_state)
        async with (
            running_task(Reconciler(app_state.jobs, outputs, settings.job_days).run()),
            running_task(app_state.latents.run()),
            running_task(Webhooks(app_state).run()),
            running_server(app, listener, settings.keep_alive),
        ):
            try:
                yield client
                app_state.draining.set()
                if settings.drain_seconds:
                    logger.info("not ready any more; stopping in %g s", settings.drain_seconds)
                    await sleep(settings.drain_seconds)
            finally:
                app_state.stopping.set()  # also after an error: event streams would delay the shutdown


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the commands: uvicorn would raise them again once it has stopped, during our shutdown."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, and wait for the first request of those that were just accepted.

        uvicorn would close them as idle, although another process may serve the same listener.
        """
        for server in self.servers:
            server.close()
        for _ in range(FIRST_REQUEST_POLLS):
            if all(getattr(connection, "cycle", None) for connection in self.server_state.connections):
                break
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)


@asynccontextmanager
async def running_server(app: FastAPI, listener: socket.socket, keep_alive: int) -> AsyncIterator[None]:
    """Serve an application on ``listener`` while the block runs. Idle connections are closed after ``keep_alive`` s."""
    config = uvicorn.Config(
        app,
        http=HTTPProtocol,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,  # see AccessLogMiddleware
        server_header=False,
        proxy_headers=False,  # see ProxyHeadersMiddleware
        backlog=BACKLOG,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=DRAIN_TIMEOUT,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        if cancelled := list(server.server_state.tasks):  # they still have to say so to their clients
            await asyncio.wait(cancelled, timeout=CANCEL_TIMEOUT)
