"""What proxies in front of the gateway tell of the client: believed from those that are named, from nobody else."""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")
_ABSOLUTE = re.compile(rf"https?://(?P<host>{_HOST.pattern})(?P<path>/.*)?", re.IGNORECASE)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def parse_networks(text: str) -> list[Network]:
    """Addresses and networks, separated by commas. Raises ValueError."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


class Proxies:
    """Gives the application the scheme, host, path prefix and address that the client has seen and has.

    Of X-Forwarded-Proto, -Host, -Prefix and -For from a trusted proxy, what makes no sense is left out.

    Args:
        trusted: as ``parse_networks`` takes them.
        root_path: the path under which the service is seen where no header tells another.
    """

    def __init__(self, app: ASGIApp, trusted: str, root_path: str) -> None:
        self.app = app
        self.trusted: Sequence[Network] = parse_networks(trusted)
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _take_origin_form(scope)
            root = self.root_path
            if self._is_trusted(scope):
                root = self._believe(scope) or root
            if root:
                scope["root_path"] = root
                if not (scope["path"] + "/").startswith(f"{root}/"):  # the proxy has cut it off
                    scope["path"] = root + scope["path"]
        return await self.app(scope, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
        return self._trusts(scope["client"][0].partition("%")[0]) if scope.get("client") else False

    def _trusts(self, host: str) -> bool:
        return _is_address(host) and any(ipaddress.ip_address(host) in network for network in self.trusted)

    def _believe(self, scope: Scope) -> str | None:
        """Takes over what the headers say; returns the prefix."""
        given = Headers(scope=scope)
        if (scheme := _values(given, "x-forwarded-proto")[-1]) in ("http", "https"):
            scope["scheme"] = scheme
        if _HOST.fullmatch(host := _values(given, "x-forwarded-host")[-1]):
            MutableHeaders(scope=scope)["host"] = host
        # The nearest that is no proxy of ours: those before it may be made up.
        for client in reversed(_values(given, "x-forwarded-for")):
            if not _is_address(client):
                break
            scope["client"] = (client, 0)
            if not self._trusts(client):
                break
        prefix = _values(given, "x-forwarded-prefix")[-1].rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else None


def _take_origin_form(scope: Scope) -> None:
    """An absolute address is for proxies, but has to be understood; its host counts, and not the header's (RFC 9112,
    section 3.2.2)."""
    if match := _ABSOLUTE.fullmatch(scope["raw_path"].decode("ascii")):
        MutableHeaders(scope=scope)["host"] = match["host"]
        path = match["path"] or "/"
        scope["raw_path"], scope["path"] = path.encode("ascii"), unquote(path)


def base_address(request: Request) -> str:
    """The service's address as the client sees it, without a slash at the end."""
    return str(request.base_url).rstrip("/")


def route_path(scope: Scope) -> str:
    """The path of a request below the path under which a proxy shows the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _values(headers: Headers, name: str) -> list[str]:
    """Of all headers of a name, the last of which the nearest proxy has added: it may write a line of its own, or add
    to the client's. At least one, which may be empty."""
    return [value.strip() for value in ",".join(headers.getlist(name)).split(",")]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # after which IPv6 takes anything, line breaks of the log among it
