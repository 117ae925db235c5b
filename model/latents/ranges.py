"""Lists of numbers as StyleGAN's tools write them: ``0-15,40``."""

import re

from model.errors import InputError
from model.latents.latent import MAX_SEED

MAX_SEEDS = 4096
"""Most seeds of one request or command."""

_MAX_LENGTH = 4096
"""Longest text in characters."""

_RANGE = re.compile(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", re.ASCII)


def parse_seeds(field: str, text: str) -> tuple[int, ...]:
    """``0-15,40`` in the given order; a seed may come twice. Raises InputError."""
    return _parse(field, text, MAX_SEED, MAX_SEEDS)


def parse_layers(field: str, text: str, num_ws: int) -> tuple[int, ...]:
    """Layers from 0 to num_ws − 1. Raises InputError."""
    return tuple(sorted(set(_parse(field, text, num_ws - 1, num_ws))))


def _parse(field: str, text: str, largest: int, most: int) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in text[: _MAX_LENGTH + 1].split(","):
        match = _RANGE.fullmatch(part)
        if match is None or len(text) > _MAX_LENGTH:
            raise InputError(field, f"must be numbers and ranges like 0-3,7, not {text[:40]!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last > largest:
            raise InputError(field, f"must be from 0 to {largest}, not {last}")
        if last < first:
            raise InputError(field, f"has a range that ends before it begins: {first}-{last}")
        if len(numbers) + last - first + 1 > most:  # before they are counted out
            raise InputError(field, f"must be at most {most} numbers")
        numbers.extend(range(first, last + 1))
    return tuple(numbers)
