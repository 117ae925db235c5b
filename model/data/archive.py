"""Files of a data set in a folder, zip or tar, by name."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from model.data.images import SUFFIXES, reason
from model.data.labels import LABELS, MAX_LABELS_BYTES, Labels, parse_labels, parse_sizes
from model.data.storage import open_storage
from model.errors import InputError
from model.util.text import printable

MAX_IMAGE_BYTES = 1 << 28
"""Largest file that is read; in a zip, its unpacked size."""


class Archive:
    """The files of a folder, zip or tar, by name, as bytes. Safe for threads; of folders and zips, also for processes.

    Hidden files are ignored: names with a part that begins with a dot, and macOS's ``__MACOSX``. Links are followed.

    Args:
        field: the field that errors name.

    Attributes:
        names: names of all files, sorted, with "/" between their parts, also where a zip has "\\" as on Windows.

    Raises:
        InputError: the path is no folder, zip or tar, or the zip or tar is broken, encrypted, compressed with anything
            but deflate or, a zip, has two files of one name.
    """

    def __init__(self, path: Path, field: str = "data") -> None:
        self.path, self.field = path, field
        self._storage = open_storage(path, field)
        self._files = self._storage.files
        self.names = sorted(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    @property
    def images(self) -> list[str]:
        """Names of the files with an image's suffix."""
        return [name for name in self.names if _suffix(name) in SUFFIXES]

    def others(self, match: Callable[[str], object]) -> str:
        """The files that match, but are neither images nor labels, counted by suffix: "2 .heic, 1 .txt"."""
        names = (name for name in self.names if name != LABELS and match(name))
        counts = Counter(suffix for name in names if (suffix := _suffix(name)) not in SUFFIXES)
        return ", ".join(f"{count} {printable(suffix) or 'without suffix'}" for suffix, count in counts.most_common())

    @contextmanager
    def open(self, name: str, limit: int = MAX_IMAGE_BYTES) -> Iterator[IO[bytes]]:
        """Open a file for reading. A zip serves one thread at a time, and a tar's file is read whole.

        Raises:
            ValueError: the file has more than ``limit`` bytes.
            OSError, zipfile.BadZipFile: the file cannot be read.
        """
        size = self._files[name][0]
        if size > limit:
            raise ValueError(f"it has {size} bytes, more than {limit >> 20} MiB")
        with self._storage.open(name) as file:
            yield file

    def read(self, name: str, limit: int = MAX_IMAGE_BYTES) -> bytes:
        """The content of a file. Raises as :meth:`open`, and zlib.error."""
        with self.open(name, limit) as file:
            return file.read(self._files[name][0])

    def labels(self) -> Labels:
        """The labels in ``dataset.json``, empty if there is none. Raises InputError if they are invalid."""
        return parse_labels(self._read_labels(), self.field) if LABELS in self._files else Labels()

    def sizes(self) -> dict[str, int]:
        """Sides of images that keep their own size (model/data/pyramid.py), from ``dataset.json``; empty for others.

        Raises InputError if they are invalid.
        """
        return parse_sizes(self._read_labels(), self.field) if LABELS in self._files else {}

    def digest(self) -> str:
        """SHA-256, 64 hex digits, that identifies a data set without reading its images.

        It covers a line of JSON ``[name, size, CRC-32]`` for each file in the order of their names, and the content of
        ``dataset.json``, but no times, owners, paths or compression. Folders and tars have no CRCs: a file that is
        replaced by another of the same size does not change the digest, and a folder's digest differs from its zip's.
        """
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(json.dumps([name, *self._files[name]]).encode() + b"\n")
        digest.update(self._read_labels())
        return digest.hexdigest()

    def _read_labels(self) -> bytes:
        try:
            return self.read(LABELS, MAX_LABELS_BYTES) if LABELS in self._files else b""
        except Exception as error:
            raise InputError(self.field, f"{LABELS} cannot be read: {reason(error)}") from None


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()
