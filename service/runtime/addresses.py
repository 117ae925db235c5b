"""Origins as browsers name them."""

import re

_ORIGIN = re.compile(r"https?://([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?")


def parse_origins(text: str) -> tuple[str, ...]:
    """Origins, separated by commas. Raises ValueError."""
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("must be origins such as https://example.org, in lower case, without a path")
    return origins
