"""Numbers in addresses: plain decimals, as the specification writes them."""

import re

_WHOLE = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"(\d{1,9}(\.\d{0,15})?|\.\d{1,15})", re.ASCII)


def whole(text: str) -> int | None:
    """A whole number of up to nine digits, or None."""
    return int(text) if _WHOLE.fullmatch(text) else None


def decimal(text: str) -> float | None:
    """A number without a sign or an exponent, or None."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def written(value: float) -> str:
    """A number as canonical addresses have it: no zeros or point at the end."""
    return f"{value:.10f}".rstrip("0").rstrip(".")
