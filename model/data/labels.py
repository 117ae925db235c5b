"""Classes and sizes of images: from StyleGAN's ``dataset.json``, and classes from folders."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.data.images import MAX_IMAGE_PIXELS
from model.errors import InputError
from model.util.text import printable

LABELS = "dataset.json"
"""Name of the labels' file at the top of a data set (StyleGAN)."""

MAX_LABELS_BYTES = 1 << 28
"""Largest labels' file: enough for about six million images."""

MAX_CLASSES = 100_000
"""Most classes of a generator (model/config.py)."""

MAX_SIDE = math.isqrt(MAX_IMAGE_PIXELS)
"""Largest side of a square image in pixels."""


@dataclass(frozen=True)
class Labels:
    """Class of each image by its name, and the names of the classes. Either may be empty."""

    by_name: dict[str, int] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)

    def check_complete(self, names: Sequence[str], where: str) -> None:
        """Raise InputError unless all images have a class, or none has."""
        missing = [name for name in names if name not in self.by_name]
        if self.by_name and missing:
            others = f" and {len(missing) - 1} other images" if missing[1:] else ""
            raise InputError(where, f"{LABELS} has no class for {printable(missing[0])}{others}")

    def to_json(self, sizes: Mapping[str, int] | None = None) -> bytes:
        """The content of ``dataset.json``, as StyleGAN's, with the names of the classes and the sizes if known."""
        document: dict[str, Any] = {"labels": [[name, label] for name, label in self.by_name.items()] or None}
        if self.class_names:
            document["classes"] = self.class_names
        if sizes:
            document["sizes"] = list(sizes.items())
        return json.dumps(document).encode()


def parse_labels(content: bytes, where: str) -> Labels:
    """Parse ``{"labels": [["00000/img00000000.png", 3], …], "classes": ["cat", …]}``, in which either may be missing.

    A class may also be a one-hot vector, and names may have "\\" between their parts, as on Windows.

    Args:
        content: UTF-8 bytes.
        where: the field that errors name.

    Raises:
        InputError: the content is malformed, or an image's label is not one class from 0 to ``MAX_CLASSES`` − 1.
    """
    document = _parse_json(content, where)
    labels = document.get("labels") if isinstance(document, dict) else ""
    if labels is None:
        return Labels()
    if not isinstance(labels, list) or not all(map(_is_pair, labels)):
        raise InputError(where, f'{LABELS} is not {{"labels": [[name, class], …]}}')
    classes: dict[str, int] = {}
    for name, given in labels:
        name, label = name.replace("\\", "/"), _as_class(given)
        if label is None or not 0 <= label < MAX_CLASSES:
            shown = printable(json.dumps(given))
            raise InputError(
                where,
                f"{LABELS} gives {printable(name)} the class {shown}, not one integer from 0 to {MAX_CLASSES - 1} "
                "or a one-hot vector",
            )
        if classes.setdefault(name, label) != label:
            raise InputError(where, f"{LABELS} gives {printable(name)} two classes, {classes[name]} and {label}")
    return Labels(classes, _class_names(document.get("classes"), classes, where))


def parse_sizes(content: bytes, where: str) -> dict[str, int]:
    """Parse ``{"sizes": [["00000/img00000000.png", 1024], …]}``: side in pixels of each square image by its name.

    Empty if there is no "sizes": then the images are files of one size.

    Raises:
        InputError: the content is malformed, or a size is not from 1 to ``MAX_SIDE``.
    """
    document = _parse_json(content, where)
    given = document.get("sizes") if isinstance(document, dict) else None
    if given is None:
        return {}
    if not isinstance(given, list) or not given or not all(map(_is_pair, given)):
        raise InputError(where, f'{LABELS}: "sizes" is not [[name, side], …]')
    sizes: dict[str, int] = {}
    for name, side in given:
        name = name.replace("\\", "/")
        if type(side) is not int or not 1 <= side <= MAX_SIDE:
            shown = printable(json.dumps(side))
            raise InputError(
                where, f"{LABELS} gives {printable(name)} the size {shown}, not an integer from 1 to {MAX_SIDE}"
            )
        if sizes.setdefault(name, side) != side:
            raise InputError(where, f"{LABELS} gives {printable(name)} two sizes, {sizes[name]} and {side}")
    return sizes


def labels_from_folders(names: Sequence[str]) -> Labels:
    """Labels with every top-level folder as a class, numbered in the order of their names.

    Raises:
        InputError: an image is in no folder, or there are fewer than two folders or too many.
    """
    folders = sorted({name.partition("/")[0] for name in names if "/" in name})
    if outside := [name for name in names if "/" not in name]:
        raise InputError("class-folders", f"{printable(outside[0])} is in no folder, so it has no class")
    if len(folders) < 2:
        found = f"only {printable(folders[0])}" if folders else "none"
        raise InputError("class-folders", f"needs images in two or more top-level folders, found {found}")
    if len(folders) > MAX_CLASSES:
        raise InputError("class-folders", f"there are {len(folders)} folders, more than {MAX_CLASSES} classes")
    numbers = {folder: number for number, folder in enumerate(folders)}
    return Labels({name: numbers[name.partition("/")[0]] for name in names}, folders)


def _parse_json(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(where, f"{LABELS} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(where, f"{LABELS} is not JSON: {printable(str(error))}") from None


def _is_pair(item: object) -> bool:
    return isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)


def _as_class(label: object) -> int | None:
    """The class that an integer, an integral float or a one-hot vector stands for."""
    if isinstance(label, list):
        return label.index(1) if label.count(1) == 1 and label.count(0) == len(label) - 1 else None
    return int(label) if type(label) is int or (isinstance(label, float) and label.is_integer()) else None


def _class_names(names: object, classes: dict[str, int], where: str) -> list[str]:
    if names is None or not classes:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(where, f'{LABELS}: "classes" is not a list of names')
    if not max(classes.values()) < len(names) <= MAX_CLASSES:
        raise InputError(where, f"{LABELS} names {len(names)} classes, but has class {max(classes.values())}")
    return names
