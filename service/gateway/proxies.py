"""What proxies in front of the gateway tell of the client: believed from those that are named, from nobody else."""

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST = re.compile(r"([A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")
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
            root = self.root_path
            if self._is_trusted(scope):
                root = self._believe(scope) or root
            if root:
                scope["root_path"] = root
                if not (scope["path"] + "/").startswith(f"{root}/"):  # the proxy has cut it off
                    scope["path"] = root + scope["path"]
        return await self.app(scope, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
        return self._trusts(scope["client"][0]) if scope.get("client") else False

    def _trusts(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.trusted)

    def _believe(self, scope: Scope) -> str | None:
        """Takes over what the headers say; returns the prefix."""
        given = Headers(scope=scope)
        if (scheme := _last(given.get("x-forwarded-proto"))) in ("http", "https"):
            scope["scheme"] = scheme
        if (host := _last(given.get("x-forwarded-host"))) and _HOST.fullmatch(host):
            MutableHeaders(scope=scope)["host"] = host
        # The nearest that is no proxy of ours: those before it may be made up.
        for client in reversed(given.get("x-forwarded-for", "").split(",")):
            if client.strip():
                scope["client"] = (client.strip()[:64], 0)
                if not self._trusts(client.strip()):
                    break
        prefix = given.get("x-forwarded-prefix", "").rstrip("/")
        return prefix if _PREFIX.fullmatch(prefix) else None


def route_path(scope: Scope) -> str:
    """The path of a request below the path under which a proxy shows the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _last(header: str | None) -> str | None:
    """Of a list, the value that the nearest proxy has added."""
    return None if header is None else header.rpartition(",")[2].strip()
