"""Image identifiers: ``demo:7:psi=0.7`` for an image rendered on request, ``job:ID`` for the output of a job."""

import re
from dataclasses import dataclass

from model.latents.latent import LATENT_ID, MAX_SEED
from model.viewport import MAX_SIDE
from service.iiif.request import UnknownIdentifierError, parse_integer

DEFAULT_SIDE = 65_536
"""Default side of a live image, far above the training resolution: viewers can zoom in."""

_FORM = "must be MODEL:SEED or MODEL:lat_…, optionally with :psi=, :cutoff=, :class=, :size= or :wrap=, or job:ID"
_JOB = re.compile(r"job:([0-9a-f]{32})")
_SEED = re.compile(r"\d{1,10}", re.ASCII)
_PSI = re.compile(r"-?\d(\.\d{0,15})?", re.ASCII)


@dataclass(frozen=True)
class StoredIdentifier:
    """The finished output of a job."""

    job: str


@dataclass(frozen=True)
class LiveIdentifier:
    """A square image of a model, ``side`` pixels each way. ``seed`` may be the id of a stored latent."""

    model: str
    seed: int | str
    psi: float = 1.0
    cutoff: int | None = None
    class_index: str | None = None
    side: int = DEFAULT_SIDE
    wrap: str | None = None


def parse_identifier(text: str) -> LiveIdentifier | StoredIdentifier:
    """Raises UnknownIdentifierError."""
    if match := _JOB.fullmatch(text):
        return StoredIdentifier(match[1])
    model, _, rest = text.partition(":")
    latent, *parts = rest.split(":")
    seed = latent if LATENT_ID.fullmatch(latent) else int(latent) if _SEED.fullmatch(latent) else MAX_SEED + 1
    if not model or (isinstance(seed, int) and seed > MAX_SEED):
        raise UnknownIdentifierError("identifier", f"{_FORM}; a seed is from 0 to {MAX_SEED}")
    given: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        if name not in ("psi", "cutoff", "class", "size", "wrap") or name in given:
            raise UnknownIdentifierError("identifier", _FORM)
        given[name] = value
    return LiveIdentifier(
        model,
        seed,
        _psi(given.get("psi", "1")),
        _integer(given, "cutoff"),
        given.get("class"),
        _side(given),
        given.get("wrap"),
    )


def _psi(text: str) -> float:
    if not _PSI.fullmatch(text):
        raise UnknownIdentifierError("identifier", "must have a number as psi")
    return float(text)


def _integer(given: dict[str, str], name: str) -> int | None:
    if name not in given:
        return None
    if (number := parse_integer(given[name])) is None:
        raise UnknownIdentifierError("identifier", f"must have an integer as {name}")
    return number


def _side(given: dict[str, str]) -> int:
    side = _integer(given, "size")
    if side is None:
        return DEFAULT_SIDE
    if not 1 <= side <= MAX_SIDE:
        raise UnknownIdentifierError("identifier", f"must have a size from 1 to {MAX_SIDE}, not {side}")
    return side
