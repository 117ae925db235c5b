"""Connections to a gateway, byte by byte: what no client's library would send, or leave unread."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.service.gateway.stand_in import RunningGateway
from tests.service.waiting import LONG

PROBLEM = b"application/problem+json"


@contextmanager
def connected(gateway: RunningGateway) -> Iterator[socket.socket]:
    url = gateway.http.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=LONG) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Until the gateway closes the connection."""
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


def exchange(gateway: RunningGateway, *parts: bytes) -> bytes:
    with connected(gateway) as connection:
        for part in parts:
            connection.sendall(part)
        return read_all(connection)


def assert_closed_while(connection: socket.socket, drop: bytes) -> None:
    """The gateway closes the connection of a client that goes on sending."""
    end = time.monotonic() + LONG
    try:
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(0.05)
    except OSError:
        return
    pytest.fail("it was borne for ever")
