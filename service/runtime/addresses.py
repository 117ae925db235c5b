"""Networks and origins in settings."""

import ipaddress
import re

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ORIGIN = re.compile(r"https?://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?")


def parse_networks(text: str) -> list[Network]:
    """Parse addresses and networks, separated by commas. Raises ValueError."""
    try:
        return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError("must be addresses or networks, separated by commas") from None


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse origins as browsers send them, separated by commas. Raises ValueError."""
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins such as https://example.org, in lower case, without a path")
    return origins
