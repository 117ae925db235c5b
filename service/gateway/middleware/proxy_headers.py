"""The client's scheme, host, path prefix and address, as trusted proxies report them."""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote
from urllib.request import parse_http_list

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.runtime.addresses import Network, parse_networks

_FORWARDED = {b"forwarded"} | {f"x-forwarded-{name}".encode() for name in ("for", "host", "proto", "port", "prefix")}

_HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")
_ABSOLUTE = re.compile(rf"https?://(?P<host>{_HOST.pattern})(?P<path>/.*)?", re.IGNORECASE)
_PORT = re.compile(r"\d{1,5}")
_NODE = re.compile(r"\[(?P<ipv6>.*)\](:.*)?|(?P<ipv4>[^:]*):[^:]*")
"""An address with brackets or a port."""

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


class ProxyHeadersMiddleware:
    """Sets the scheme, host, root path and client of a request as the client sees them.

    X-Forwarded-Proto, -Host, -Port, -Prefix and -For are used if they come from a trusted proxy and are well-formed;
    Forwarded (RFC 7239) only without the first, second and last of them, since a proxy that sets these may pass on a
    client's Forwarded. ``root_path`` is the path prefix without an X-Forwarded-Prefix.
    """

    def __init__(self, app: ASGIApp, trusted: str, root_path: str) -> None:
        self.app = app
        self.trusted: Sequence[Network] = parse_networks(trusted)
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _resolve_absolute_target(scope)
        root = self.root_path
        if scope.get("client"):
            host, port = scope["client"]
            client = _parse_address(host.partition("%")[0])
            if client and "%" not in host:
                scope["client"] = (client, port)
            forwarded = not _FORWARDED.isdisjoint(name for name, _ in scope["headers"])
            if forwarded and client and self._trusts(client):
                root = self._apply(scope) or root
        if root:
            scope["root_path"] = root
            if not (scope["path"] + "/").startswith(f"{root}/"):  # the proxy has removed it
                scope["path"] = root + scope["path"]
        return await self.app(scope, receive, send)

    def _trusts(self, address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in self.trusted)

    def _apply(self, scope: Scope) -> str | None:
        """Apply the headers to the scope; return the prefix."""
        given = Headers(scope=scope)
        nodes, host, scheme = _read_forwarded(given)
        if scheme in ("http", "https"):
            scope["scheme"] = scheme
        host = host if _HOST.fullmatch(host) else given.get("host", "")
        # A default port may be that of another scheme, which an outer proxy has changed.
        port = _values(given, "x-forwarded-port")[-1]
        if _PORT.fullmatch(port) and port not in ("80", "443") and ":" not in host.rpartition("]")[2]:
            host = f"{host}:{port}"
        if host:
            MutableHeaders(scope=scope)["host"] = host
        # The last address that is not one of our proxies: the client may have made up those before it.
        for node in reversed(nodes):
            if not (client := _parse_address(node)):
                break
            scope["client"] = (client, 0)
            if not self._trusts(client):
                break
        prefix = _values(given, "x-forwarded-prefix")[-1].rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else None


def _resolve_absolute_target(scope: Scope) -> None:
    """Replace an absolute address by its path. Its host overrides the Host header (RFC 9112, section 3.2.2)."""
    if scope["raw_path"].startswith(b"/"):
        return
    if match := _ABSOLUTE.fullmatch(scope["raw_path"].decode("ascii")):
        MutableHeaders(scope=scope)["host"] = match["host"]
        path = match["path"] or "/"
        scope["raw_path"], scope["path"] = path.encode("ascii"), unquote(path)


def base_address(request: Request) -> str:
    """The service's address as the client sees it, without a trailing slash."""
    return str(request.base_url).rstrip("/")


def route_path(scope: Scope) -> str:
    """The path of a request without the prefix that a proxy adds."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _values(headers: Headers, name: str) -> list[str]:
    """All values of a header, at least one, which may be empty. The nearest proxy has added the last one, as a header
    line of its own or at the end of the client's."""
    return [value.strip() for value in ",".join(headers.getlist(name)).split(",")]


def _read_forwarded(headers: Headers) -> tuple[list[str], str, str]:
    """The addresses that the request has come by, and the last host and scheme, each of which may be empty."""
    names = ("for", "host", "proto")
    if "forwarded" not in headers or any(f"x-forwarded-{name}" in headers for name in names):
        nodes, hosts, schemes = (_values(headers, f"x-forwarded-{name}") for name in names)
        return nodes, hosts[-1], schemes[-1]
    elements = [_parse_element(element) for element in parse_http_list(", ".join(headers.getlist("forwarded")))] or [{}]
    return [element.get("for", "") for element in elements], elements[-1].get("host", ""), elements[-1].get("proto", "")


def _parse_element(element: str) -> dict[str, str]:
    """The parameters of one element of Forwarded, without quotes."""
    pairs = [pair.partition("=") for pair in element.split(";")]
    return {name.strip().lower(): value.strip().removeprefix('"').removesuffix('"') for name, _, value in pairs}


@lru_cache(4096)  # the same proxies and clients come again
def _parse_address(text: str) -> str | None:
    """An address without a port. IPv4 addresses that are written as IPv6, as by a socket for both, become IPv4."""
    if match := _NODE.fullmatch(text):
        text = match["ipv6"] or match["ipv4"] or ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if "%" in text:  # an IPv6 zone may contain anything, such as line breaks that forge log lines
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)
