"""Where the files of a data set lie: in a folder, a zip or a tar. They are listed at once and read one by one."""

import gzip
import io
import os
import posixpath
import shutil
import stat
import struct
import tarfile
import tempfile
import weakref
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple, Protocol

from model.data.images import reason
from model.errors import InputError
from model.util.text import printable

GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""

MAX_LINKS = 8
"""Links in a tar that lead to one file, one after the other."""


class Storage(Protocol):
    """Files by name, with "/" between the parts of a name. Hidden ones are left out. Safe for threads.

    Attributes:
        files: size in bytes and CRC-32 of each file. Only zips have a CRC.
    """

    files: dict[str, tuple[int, int | None]]

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for reading."""
        ...


def open_storage(path: Path, field: str) -> Storage:
    """The storage at a path.

    Raises:
        InputError: the path does not exist or is no folder, zip or tar, or the file is broken or has entries that are
            not read. It names ``field``.
    """
    if not path.exists():
        raise InputError(field, f"{path} does not exist")
    if path.is_dir():
        return FolderStorage(path)
    if zipfile.is_zipfile(path):
        return ZipStorage(path, field)
    if is_tar(path):
        return TarStorage(path, field)
    raise InputError(field, f"{path} is neither a folder nor a zip nor a tar")


class FolderStorage:
    """The files in a folder and its subfolders. Links are followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: dict[str, tuple[int, int | None]] = dict(_list_folder(path))

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return (self._path / name).open("rb")


class _OpenZip(NamedTuple):
    """A zip file, the process that opened it and a lock for that process's threads."""

    process: int
    file: zipfile.ZipFile
    lock: Lock


class ZipStorage:
    """The files in a zip, stored or deflated. It serves one thread at a time. Safe for forked processes."""

    def __init__(self, path: Path, field: str) -> None:
        self._path, self._field = path, field
        self._opened: _OpenZip | None = None
        self._names: dict[str, str] = {}  # in the zip, where they differ: Windows' have "\\"
        self.files: dict[str, tuple[int, int | None]] = {}
        for entry in self._open_zip().file.infolist():
            filename = entry.filename.replace("\\", "/")
            if filename.endswith("/") or is_hidden(filename):
                continue
            name = f"{path}: {printable(filename)}"
            if filename in self.files:
                raise InputError(field, f"{name} appears twice")
            if entry.flag_bits & 1:
                raise InputError(field, f"{name} is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python decompresses the others in whole blocks, whatever the size that was declared.
                raise InputError(field, f"{name} is compressed with something else than deflate")
            self.files[filename] = entry.file_size, entry.CRC
            if filename != entry.filename:
                self._names[filename] = entry.filename

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        opened = self._open_zip()
        with opened.lock, opened.file.open(self._names.get(name, name)) as file:
            yield file

    def _open_zip(self) -> _OpenZip:
        # A forked process shares the file position with its parent, so it opens the file anew.
        if self._opened is None or self._opened.process != os.getpid():
            try:
                self._opened = _OpenZip(os.getpid(), zipfile.ZipFile(self._path), Lock())
            except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
                raise InputError(self._field, f"{self._path} is a broken zip: {reason(error)}") from None
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


class TarStorage:
    """The files in a tar, of which a compressed one is unpacked into a nameless temporary file.

    Links within the tar are followed. Of two files of one name the last one counts, as it does when a tar is extracted.
    """

    def __init__(self, path: Path, field: str) -> None:
        try:
            self._file = _open_tar(path)
            weakref.finalize(self, self._file.close)
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                members = {posixpath.normpath(member.name).lstrip("/"): member for member in tar}
                self._file.seek(tar.offset)  # tarfile takes a damaged header for the end, which is a block of zeros
                if self._file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise ValueError(f"it is damaged at byte {tar.offset}")
        except Exception as error:  # tarfile raises errors of many types
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise InputError(field, f"{path} is a broken tar: {reason(error)}") from None
        files = {name: file for name in members if not is_hidden(name) and (file := _follow(name, members))}
        if sparse := next((name for name, file in files.items() if file.issparse()), None):
            raise InputError(field, f"{path}: {printable(sparse)} is stored as a sparse file")
        self.files: dict[str, tuple[int, int | None]] = {name: (file.size, None) for name, file in files.items()}
        self._offsets = {name: file.offset_data for name, file in files.items()}

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        content = os.pread(self._file.fileno(), self.files[name][0], self._offsets[name])
        return nullcontext(io.BytesIO(content))


def is_tar(path: Path) -> bool:
    """Whether a file begins as a tar, or as a compressed one."""
    if not path.is_file():
        return False
    try:
        tarfile.open(path, "r:gz" if _is_gzip(path) else "r:").close()
    except Exception:  # as above
        return False
    return True


def is_hidden(name: str) -> bool:
    """Whether a part of the name begins with a dot, or is macOS's folder of metadata."""
    return any(part == "__MACOSX" or (part.startswith(".") and part.strip(".")) for part in name.split("/"))


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _open_tar(path: Path) -> IO[bytes]:
    if not _is_gzip(path):
        return path.open("rb")
    with ExitStack() as stack:
        unpacked = stack.enter_context(tempfile.TemporaryFile())
        with gzip.open(path) as file:
            shutil.copyfileobj(file, unpacked, 1 << 20)
        unpacked.seek(0)
        stack.pop_all()  # it is needed as long as the storage
        return unpacked


def _follow(name: str, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The file of a name, if need be at the end of links; None if there is none."""
    for _ in range(MAX_LINKS):
        if (member := members.get(name)) is None or not (member.issym() or member.islnk()):
            break
        # A hard link names a member; a symbolic link is relative to its own folder.
        folder = posixpath.dirname(name) if member.issym() else ""
        name = posixpath.normpath(posixpath.join(folder, member.linkname)).lstrip("/")
    return member if member is not None and member.isreg() else None


def _list_folder(
    path: str | Path, prefix: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[int, int | None]]]:
    above = (*above, os.path.realpath(path))
    for entry in filter(lambda entry: not is_hidden(entry.name), os.scandir(path)):
        try:
            status = entry.stat()
        except FileNotFoundError:  # a symbolic link to nothing
            continue
        if stat.S_ISREG(status.st_mode):
            yield prefix + entry.name, (status.st_size, None)
        elif stat.S_ISDIR(status.st_mode) and os.path.realpath(entry.path) not in above:  # no link to a folder above
            yield from _list_folder(entry.path, f"{prefix}{entry.name}/", above)
