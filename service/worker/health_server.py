"""A worker's own HTTP port: ``/livez`` for whoever starts it again when it hangs, and ``/metrics`` for Prometheus."""

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from model.errors import InputError


class WorkerPort:
    """Answers in a thread of its own, so that it also tells of an event loop that hangs.

    Args:
        port: to listen on, at all addresses; 0 for any free one.

    Attributes:
        port: where it listens.
        trouble: tells what hangs, if anything does. Until it is set the worker is starting.

    Raises:
        InputError: the port cannot be listened on.
    """

    def __init__(self, port: int) -> None:
        self.trouble: Callable[[], str | None] = lambda: None
        self._metrics = make_wsgi_app()
        try:
            server = make_server("", port, self._answer, ThreadingWSGIServer, handler_class=_Quiet)
        except OSError as error:
            raise InputError("--metrics-port", f"{port} cannot be listened on: {error.strerror}") from None
        self.port: int = server.server_port
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def _answer(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environment["PATH_INFO"] != "/livez":
            metrics: Iterable[bytes] = self._metrics(environment, start)
            return metrics
        trouble = self.trouble()
        start("503 Service Unavailable" if trouble else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [(trouble or "alive").encode()]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as the base class has it
        """Probes and scrapes are not worth a line."""
