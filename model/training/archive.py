"""The files of a data set, a folder or a zip, by name."""

import hashlib
import json
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple, NoReturn

from model.errors import InputError
from model.training.decoding import SUFFIXES, printable, reason
from model.training.labels import LABELS, MAX_LABELS_BYTES, Labels, parse_labels

MAX_PICTURE_BYTES = 1 << 28
"""Larger files are not read; in a zip it is the unpacked size that counts."""


class _OpenZip(NamedTuple):
    """A zip in the process that opened it; the lock is for its threads."""

    process: int
    file: zipfile.ZipFile
    lock: Lock


class Archive:
    """The files of a folder or of a zip, by name, as bytes. Threads and forked processes may read side by side.

    What the user does not see is passed over: names with a part that begins with a dot, and macOS's ``__MACOSX``.
    Nothing is ever unpacked to disk.

    Attributes:
        names: names of all files, sorted, with "/" between their parts.

    Args:
        field: what errors name.

    Raises:
        InputError: neither a folder nor a zip, or a zip that is broken, encrypted, packed with anything but deflate
            or has two files of one name.
    """

    def __init__(self, path: Path, field: str = "data") -> None:
        self.path, self.field = path, field
        self._opened: _OpenZip | None = None
        self._is_folder = path.is_dir()
        if self._is_folder:
            self._files = dict(_list_folder(path))
        elif zipfile.is_zipfile(path):
            self._files = self._list_zip()
        else:
            raise InputError(field, f"{path} is neither a folder nor a zip")
        self.names = sorted(self._files)

    @property
    def pictures(self) -> list[str]:
        """Names of the files that look like pictures."""
        return [name for name in self.names if Path(name).suffix.lower() in SUFFIXES]

    @contextmanager
    def open(self, name: str, limit: int = MAX_PICTURE_BYTES) -> Iterator[IO[bytes]]:
        """The file, of which no more is read than is asked for. A zip serves one thread at a time.

        Raises:
            ValueError: it has more than ``limit`` bytes.
            OSError, zipfile.BadZipFile: it cannot be read.
        """
        size = self._files[name][0]
        if size > limit:
            raise ValueError(f"{size} bytes are more than {limit >> 20} MiB")
        if self._is_folder:
            with (self.path / name).open("rb") as file:
                yield file
        else:
            opened = self._open_zip()
            with opened.lock, opened.file.open(name) as file:
                yield file

    def read(self, name: str, limit: int = MAX_PICTURE_BYTES) -> bytes:
        """The file's content; raises what :meth:`open` does, and zlib.error."""
        with self.open(name, limit) as file:
            return file.read(self._files[name][0])

    def labels(self) -> Labels:
        """What ``dataset.json`` says; nothing where there is none. Raises InputError where it says nothing usable."""
        return parse_labels(self._read_labels(), self.field) if LABELS in self._files else Labels()

    def digest(self) -> str:
        """SHA-256 in hexadecimal that tells one data set from another without reading the pictures.

        It is taken over a line of JSON ``[name, size, CRC-32]`` for each file in the order of their names, and the
        content of ``dataset.json``. Times, owners and the place do not count, nor does how the zip is packed. A folder
        keeps no CRCs, so there a file that was replaced by another of the same size goes unnoticed, and its digest is
        not that of its zip.
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

    def _list_zip(self) -> dict[str, tuple[int, int | None]]:
        files: dict[str, tuple[int, int | None]] = {}
        for entry in self._open_zip().file.infolist():
            if entry.is_dir() or _is_hidden(entry.filename):
                continue
            name = f"{self.path}: {printable(entry.filename)}"
            if entry.filename in files:
                raise InputError(self.field, f"{name} is there twice")
            if entry.flag_bits & 1:
                raise InputError(self.field, f"{name} is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python unpacks the others a whole block at a time, whatever the size that was stated.
                raise InputError(self.field, f"{name} is packed in another way than deflate, which is not supported")
            files[entry.filename] = entry.file_size, entry.CRC
        return files

    def _open_zip(self) -> _OpenZip:
        # A forked process shares the position in the file with its parent, so it must not read from the parent's.
        if self._opened is None or self._opened.process != os.getpid():
            try:
                self._opened = _OpenZip(os.getpid(), zipfile.ZipFile(self.path), Lock())
            except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
                raise InputError(self.field, f"{self.path} is a broken zip: {reason(error)}") from None
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _list_folder(path: Path) -> Iterator[tuple[str, tuple[int, int | None]]]:
    for root, folders, files in os.walk(path, onerror=_raise):
        folders[:] = [folder for folder in folders if not _is_hidden(folder)]
        for file in filter(lambda file: not _is_hidden(file), files):
            try:
                status = Path(root, file).stat()
            except FileNotFoundError:  # a symbolic link to nothing
                continue
            if stat.S_ISREG(status.st_mode):
                yield Path(root, file).relative_to(path).as_posix(), (status.st_size, None)


def _is_hidden(name: str) -> bool:
    return any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _raise(error: OSError) -> NoReturn:
    raise error
