"""Names that an operator gives to directions, kept in a file beside the checkpoint."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.direction import Direction
from model.latents.latent import DIRECTION_NAME
from model.util.text import printable

logger = logging.getLogger(__name__)

SUFFIX = ".directions.json"

LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
"""Valid names: none looks like ``sefa:2``, which has a colon, or like numbers in base64, which are longer."""

MAX_BYTES = 1 << 16
"""Largest file."""


def names_path(checkpoint: Checkpoint) -> Path:
    """The file of a checkpoint's names, which need not exist."""
    return checkpoint.path.with_name(f"{checkpoint.name}{SUFFIX}")


def read_labels(checkpoint: Checkpoint) -> dict[str, str]:
    """What an operator calls directions, by the directions' own names.

    Empty if there is no file, or if it is that of an earlier checkpoint, whose directions differ. Raises InputError for
    ``directions`` if it is invalid, or OSError.
    """
    path = names_path(checkpoint)
    try:
        digest, labels = read_names_file(path)
    except FileNotFoundError:
        return {}
    if digest != checkpoint.digest:
        logger.warning("%s is not used: its names are those of the checkpoint with digest %s", path, printable(digest))
        return {}
    return labels


def read_names_file(path: Path) -> tuple[str, dict[str, str]]:
    """The digest of the checkpoint and the names in a file. Raises InputError for ``directions``, or OSError."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        return _parse(content)
    except InputError as error:
        raise InputError("directions", f"{path}: {error}") from None


def encode_labels(checkpoint: Checkpoint, labels: Mapping[str, str]) -> bytes:
    """The content of a checkpoint's file of names. Raises InputError, which names the direction."""
    content = json.dumps({"model": checkpoint.digest, "names": labels}, indent=2).encode() + b"\n"
    _parse(content)
    return content


def with_labels(directions: Mapping[str, Direction], labels: Mapping[str, str]) -> dict[str, Direction]:
    """Directions with their given names. Raises InputError if there is no direction of a name."""
    if unknown := [name for name in labels if name not in directions]:
        known = ", ".join(directions) or "none"
        raise InputError("directions", f"this model has no direction {unknown[0]}; it has {known}")
    return {name: replace(each, label=labels.get(name)) for name, each in directions.items()}


def _parse(content: bytes) -> tuple[str, dict[str, str]]:
    if len(content) > MAX_BYTES:
        raise InputError("names", f"must be a file of at most {MAX_BYTES} bytes")
    try:
        values = json.loads(content, object_pairs_hook=_unique)
        digest, labels = values["model"], values["names"]
        valid = isinstance(digest, str) and isinstance(labels, dict) and len(values) == 2
    except (ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise InputError("names", 'must be JSON such as {"model": DIGEST, "names": {"sefa:2": "smile"}}')
    for name, label in labels.items():
        _check(name, label)
    for name, label in labels.items():
        if other := next((each for each in labels if each != name and labels[each] == label), None):
            raise InputError(name, f"must have a name of its own: {other} is called {label}, too")
    return digest, labels


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _check(name: str, label: object) -> None:
    if not DIRECTION_NAME.fullmatch(name):
        raise InputError(printable(name), "must be the name of a direction, such as sefa:2")
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        given = printable(str(label))
        raise InputError(name, f"must be called by a letter and up to 31 letters, digits, - and _, not {given!r}")
