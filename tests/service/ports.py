"""Ports for servers that tests start as processes of their own, and whether they may be of IPv6."""

import socket

import pytest

_held: list[socket.socket] = []


def free_port(number: int = 0) -> int:
    """A port on which a server may listen, and which the system gives to nobody else. Raises OSError if a wanted one is
    taken.

    A socket that does not listen holds it until the test process ends. Linux lets a server listen beside it, since both
    have SO_REUSEADDR.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", number))
    _held.append(held)
    port: int = held.getsockname()[1]
    return port


def _has_ipv6() -> bool:
    """Systems may have IPv6 and no address of it."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


NEEDS_IPV6 = pytest.mark.skipif(not _has_ipv6(), reason="needs IPv6")
