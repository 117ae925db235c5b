"""Identifiers: ``demo:7:psi=0.7`` for a picture that is drawn when it is asked for, ``job:ID`` for a finished one."""

import re
from dataclasses import dataclass

from model.spec import MAX_SEED
from model.viewport import MAX_SIDE
from service.iiif.errors import UnknownIdentifierError
from service.iiif.numbers import whole

DEFAULT_SIDE = 65_536
"""Of a live picture: far more than a network learnt, which is what there is to see."""

_FORM = "must be MODEL:SEED with :psi=, :cutoff=, :class= or :size= behind it, or job:ID"
_JOB = re.compile(r"job:([0-9a-f]{32})")
_SEED = re.compile(r"\d{1,10}", re.ASCII)
_PSI = re.compile(r"-?\d(\.\d{0,15})?", re.ASCII)


@dataclass(frozen=True)
class StoredIdentifier:
    """The finished output of a job."""

    job: str


@dataclass(frozen=True)
class LiveIdentifier:
    """A square picture of a model, ``side`` pixels each way."""

    model: str
    seed: int
    psi: float = 1.0
    cutoff: int | None = None
    class_index: int | None = None
    side: int = DEFAULT_SIDE


def parse_identifier(text: str) -> LiveIdentifier | StoredIdentifier:
    """Raises UnknownIdentifierError."""
    if match := _JOB.fullmatch(text):
        return StoredIdentifier(match[1])
    model, _, rest = text.partition(":")
    seed, *parts = rest.split(":")
    if not model or not _SEED.fullmatch(seed) or int(seed) > MAX_SEED:
        raise UnknownIdentifierError("identifier", f"{_FORM}; a seed is from 0 to {MAX_SEED}")
    given: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in ("psi", "cutoff", "class", "size") or name in given:
            raise UnknownIdentifierError("identifier", _FORM)
        given[name] = value
    return LiveIdentifier(
        model,
        int(seed),
        _psi(given.get("psi", "1")),
        _number(given, "cutoff"),
        _number(given, "class"),
        _side(given),
    )


def _psi(text: str) -> float:
    if not _PSI.fullmatch(text):
        raise UnknownIdentifierError("identifier", "must have a number as psi")
    return float(text)


def _number(given: dict[str, str], name: str) -> int | None:
    if name not in given:
        return None
    if (number := whole(given[name])) is None:
        raise UnknownIdentifierError("identifier", f"must have a whole number as {name}")
    return number


def _side(given: dict[str, str]) -> int:
    side = _number(given, "size")
    if side is None:
        return DEFAULT_SIDE
    if not 1 <= side <= MAX_SIDE:
        raise UnknownIdentifierError("identifier", f"must have a size from 1 to {MAX_SIDE}, not {side}")
    return side
