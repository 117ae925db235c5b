"""The gateway as a running HTTP server."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from model.errors import InputError
from service.gateway.answers import AnswersUnderWay
from service.gateway.app import create_app
from service.gateway.budgets import Budgets
from service.gateway.current_models import CurrentModels
from service.gateway.limits import MAX_HEAD
from service.gateway.protocol import HttpProtocol
from service.gateway.services import Services
from service.gateway.webhooks import Webhooks
from service.gateway.workers import Workers
from service.jobs.board import Board
from service.jobs.keeper import Keeper
from service.mirror import open_catalog
from service.outputs.store import open_shared_store
from service.picture_cache import PictureCache
from service.picture_store import PictureStore
from service.queue import connect, stop_task
from service.render_client import RenderClient
from service.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Connections that the system keeps while we are busy."""

GRACE_SECONDS = 20
"""How long pictures under way may take when the server is asked to stop."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections already, so that none is refused while the rest starts.

    Raises:
        InputError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = reason.partition(" (while")[0]  # what follows repeats the address
        raise InputError("port", f"cannot listen on {host} port {port}: {reason}") from None
    # Connections inherit it. asyncio sets it only where a socket names its protocol; without it every answer to a
    # connection that is kept alive waits 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def address_of(listener: socket.socket) -> str:
    """The http:// address of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM or Ctrl-C sets. After it a second Ctrl-C interrupts whatever is still being finished."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        logger.info("stopping (%s)", number.name)
        stopping.set()
        loop.remove_signal_handler(signal.SIGINT)

    for number in SIGNALS:
        loop.add_signal_handler(number, stop, number)
    return stopping


@asynccontextmanager
async def running_gateway(settings: Settings, redis_url: str, listener: socket.socket) -> AsyncIterator[RenderClient]:
    """Answers HTTP requests on ``listener`` while the block runs; yields the gateway's client of the queue.

    At the end /readyz answers 503 for ``drain_seconds``, while everything else is served as before. Then no new
    connection is taken, streams of events end, and pictures under way are finished for up to GRACE_SECONDS.
    """
    store = open_shared_store(settings.outputs)
    redis = connect(redis_url)
    try:
        async with RenderClient(redis, settings.queue_limit) as client, open_catalog(settings) as catalog:
            board = Board(redis)
            cache = PictureCache(PictureStore(redis, settings.cache_bytes))
            models, workers, budgets = CurrentModels(catalog), Workers(client), Budgets(redis)
            answers = AnswersUnderWay(settings.answer_bytes)
            services = Services(settings, models, client, workers, board, store, cache, budgets, answers)
            app = create_app(services)
            keeping = asyncio.create_task(Keeper(board, store, settings.job_days).run())
            telling = asyncio.create_task(Webhooks(services).run())
            try:
                async with running_server(app, listener):
                    logger.info("the gateway listens on %s", address_of(listener))
                    try:
                        yield client
                        services.draining.set()
                        if settings.drain_seconds:
                            logger.info("not ready any more; stopping in %g s", settings.drain_seconds)
                            await asyncio.sleep(settings.drain_seconds)
                    finally:
                        services.leaving.set()  # where the block has failed, too: streams of events would hold us
            finally:
                await stop_task(telling)
                await stop_task(keeping)
                await cache.finish()
    finally:
        await redis.aclose()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are ours: uvicorn would raise them again once it has stopped, in the midst of our own clearing up."""
        yield


@asynccontextmanager
async def running_server(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Answers HTTP requests on ``listener`` while the block runs."""
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        h11_max_incomplete_event_size=MAX_HEAD,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,  # middleware.py has its own
        server_header=False,
        proxy_headers=False,  # proxies.py has its own, which know more of them
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
