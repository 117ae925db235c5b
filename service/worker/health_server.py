"""A worker's HTTP port: ``/livez`` for liveness probes, and ``/metrics`` for Prometheus."""

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from model.errors import InputError


class HealthServer:
    """Answers in a thread of its own, so that it also detects a blocked event loop. Raises InputError.

    ``unhealthy_reason`` returns what has stalled, or None. To be set once the worker has started.
    """

    def __init__(self, port: int) -> None:
        self.unhealthy_reason: Callable[[], str | None] = lambda: None
        self._metrics = make_wsgi_app()
        try:
            server = make_server("", port, self._answer, _Server, handler_class=_Quiet)
        except OSError as error:
            raise InputError("--metrics-port", f"{port} cannot be listened on: {error.strerror}") from None
        self.port: int = server.server_port
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def _answer(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] == "HEAD":
            head: list[Any] = []
            body = self._answer({**environment, "REQUEST_METHOD": "GET"}, lambda *told: head.extend(told))
            start(head[0], [*head[1], ("Content-Length", str(sum(map(len, body))))])
            return [b""]
        if environment["PATH_INFO"] != "/livez":
            metrics: Iterable[bytes] = self._metrics(environment, start)
            return metrics
        reason = self.unhealthy_reason()
        start("503 Service Unavailable" if reason else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [(reason or "alive").encode()]


class _Server(ThreadingWSGIServer):
    """Listens on IPv6 and IPv4 where the system has both."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as the base class has it
        """Does not log probes and scrapes."""
