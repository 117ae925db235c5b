"""Classes of pictures: StyleGAN's ``dataset.json``, or the folders that the pictures lie in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from model.errors import InputError
from model.training.decoding import printable

LABELS = "dataset.json"
"""Name of the file with the classes at the top of a data set (StyleGAN)."""

MAX_LABELS_BYTES = 1 << 28
"""Larger files are refused; this much holds the classes of some six million pictures."""

MAX_CLASSES = 100_000
"""The most classes that a generator can have (model/config.py)."""


@dataclass(frozen=True)
class Labels:
    """Class of each picture by its name, and the names of the classes; both are empty where there are none."""

    of: dict[str, int] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)

    def require(self, names: Sequence[str], where: str) -> None:
        """Raises InputError unless every picture has a class, or none has."""
        missing = [name for name in names if name not in self.of]
        if self.of and missing:
            others = f" and {len(missing) - 1} other pictures" if missing[1:] else ""
            raise InputError(where, f"{LABELS} has no class for {printable(missing[0])}{others}")

    def to_json(self) -> bytes:
        """The content of ``dataset.json``: StyleGAN's, and beside it the names of the classes where they are known."""
        document: dict[str, Any] = {"labels": [[name, label] for name, label in self.of.items()] or None}
        if self.class_names:
            document["classes"] = self.class_names
        return json.dumps(document).encode()


def parse_labels(content: bytes, where: str) -> Labels:
    """Reads ``{"labels": [["00000/img00000000.png", 3], …], "classes": ["cat", …]}``, where either may be missing.

    Args:
        content: the file's bytes, in UTF-8.
        where: field that an error names.

    Raises:
        InputError: anything else, or classes that are not integers from 0 to ``MAX_CLASSES`` − 1.
    """
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(where, f"{LABELS} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"{LABELS} is not JSON: {printable(str(error))}") from None
    labels = document.get("labels") if isinstance(document, dict) else ""
    if labels is None:
        return Labels()
    if not isinstance(labels, list) or not all(map(_is_pair, labels)):
        raise InputError(where, f'{LABELS} is not {{"labels": [[name, class], …]}}')
    classes: dict[str, int] = {}
    for name, label in labels:
        if type(label) is not int or not 0 <= label < MAX_CLASSES:
            shown = printable(json.dumps(label))
            raise InputError(
                where,
                f"{LABELS} gives {printable(name)} the class {shown}, not one integer from 0 to {MAX_CLASSES - 1}",
            )
        if classes.setdefault(name, label) != label:
            raise InputError(where, f"{LABELS} gives {printable(name)} two classes, {classes[name]} and {label}")
    return Labels(classes, _class_names(document.get("classes"), classes, where))


def class_folders(names: Sequence[str]) -> Labels:
    """Every folder at the top as a class, numbered in the order of their names.

    Raises:
        InputError: a picture lies outside, or there are fewer than two folders or too many.
    """
    folders = sorted({name.partition("/")[0] for name in names if "/" in name})
    if outside := [name for name in names if "/" not in name]:
        raise InputError("class-folders", f"{printable(outside[0])} lies in no folder, so it has no class")
    if len(folders) < 2:
        found = f"only {printable(folders[0])}" if folders else "none"
        raise InputError("class-folders", f"needs pictures in two or more folders at the top, found {found}")
    if len(folders) > MAX_CLASSES:
        raise InputError("class-folders", f"there are {len(folders)} folders, more than {MAX_CLASSES} classes")
    numbers = {folder: number for number, folder in enumerate(folders)}
    return Labels({name: numbers[name.partition("/")[0]] for name in names}, folders)


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _class_names(names: object, classes: dict[str, int], where: str) -> list[str]:
    if names is None or not classes:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(where, f'{LABELS}: "classes" is not a list of names')
    if not max(classes.values()) < len(names) <= MAX_CLASSES:
        raise InputError(where, f"{LABELS} names {len(names)} classes, but has class {max(classes.values())}")
    return names
