"""Protection against server-side request forgery: users may only name public addresses."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

import httpcore
from pydantic import HttpUrl

from model.errors import InputError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_URL = 2000

_NOT_PUBLIC = [
    ipaddress.ip_network("::/96"),  # IPv4-compatible (RFC 4291, section 2.5.5.1)
    ipaddress.ip_network("::ffff:0:0:0/96"),  # IPv4-translated (RFC 2765)
    ipaddress.ip_network("fec0::/10"),  # site-local (RFC 3879)
    ipaddress.ip_network("64:ff9b::/96"),  # NAT64 (RFC 6052)
    ipaddress.ip_network("64:ff9b:1::/48"),  # local NAT64 (RFC 8215)
    ipaddress.ip_network("2002::/16"),  # 6to4 (RFC 3056)
]
"""IPv6 networks that ipaddress considers public, but are private or contain IPv4 addresses, which may be private."""


class PrivateAddressError(OSError):
    """A host name resolves to an address that is not public."""


def is_public(address: Address) -> bool:
    """Whether an address is on the internet: not this machine, its network or a cloud's metadata service."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in _NOT_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def check_url(url: HttpUrl, *, private: bool) -> None:
    """Check the URL of a webhook; :class:`PublicNetwork` checks what its host name resolves to. Raises InputError.

    ``private`` allows private addresses and http://.
    """
    if len(str(url)) > MAX_URL:
        raise InputError("webhook", f"must be at most {MAX_URL} characters")
    if url.username is not None or url.password is not None:
        raise InputError("webhook", "must not contain a user name or password")
    if private:
        return
    if url.scheme != "https":
        raise InputError("webhook", "must begin with https://")
    try:
        address = ipaddress.ip_address((url.host or "").strip("[]"))
    except ValueError:
        return  # a name
    if not is_public(address):
        raise InputError("webhook", "must be a public address")


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to hosts whose addresses are all public. It connects to the address that was checked, so that a name
    that resolves differently a moment later makes no difference."""

    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises PrivateAddressError, and the errors of httpcore and the resolver."""
        async with asyncio.timeout(timeout):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(is_public(ipaddress.ip_address(address.partition("%")[0])) for address in addresses):
            raise PrivateAddressError("the host name resolves to an address that is not public")
        return await self._backend.connect_tcp(addresses[0], port, timeout, local_address, socket_options)
