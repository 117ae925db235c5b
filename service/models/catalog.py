"""The checkpoints that are served: the files of one folder, and the bundled demo."""

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import model
from model.checkpoint import NAME_PATTERN, SUFFIX, Checkpoint
from model.errors import InputError

logger = logging.getLogger(__name__)

DEMO_NAME = "demo"

DEMO = Path(model.__file__).parent / "demo" / f"{DEMO_NAME}{SUFFIX}"
"""The bundled checkpoint. A file of the same name in the folder goes before it."""

_NAMED = 20
"""Models that an error lists at most."""


@dataclass(frozen=True)
class _File:
    """A file as last read: its inode, modification time and size; no checkpoint where it is none that can be served."""

    version: tuple[int, int, int]
    checkpoint: Checkpoint | None


class Catalog:
    """Finds a checkpoint by its name or digest. Needs no torch, and may be used from several threads.

    Each question looks whether files have come, gone or changed; only those are read again. Names given by users are
    looked up among the files found, never turned into paths.

    A file that cannot be served does not end the good one whose place it took, for as long as this process runs. Files
    stay open while they are served, so that what is moved to their place, or deletes them, leaves their bytes readable.

    Args:
        folder: holds ``*.safetensors`` files, whose names without the ending are the models' names; None for the demo
            alone.
        demo: the bundled checkpoint; it may be absent.
        refresh: fetches files into the folder; called where one is asked for that is not there.
    """

    def __init__(self, folder: Path | None, demo: Path = DEMO, refresh: Callable[[], object] | None = None) -> None:
        self._folder = folder
        self._demo = demo
        self._refresh = refresh
        self._lock = threading.Lock()
        self._files: dict[Path, _File] = {}
        self._served: dict[str, Checkpoint] = {}
        self._readable = True
        self._scan()

    def models(self) -> list[Checkpoint]:
        """All checkpoints that can be served, ordered by name."""
        return sorted(self._scan().values(), key=lambda checkpoint: checkpoint.name)

    def resolve(self, name_or_digest: str) -> Checkpoint:
        """The checkpoint of that name or digest. Raises InputError as :func:`find`."""
        try:
            return find(self.models(), name_or_digest)
        except InputError:
            if self._refresh is None:
                raise
        self._refresh()
        return find(self.models(), name_or_digest)

    def _scan(self) -> dict[str, Checkpoint]:
        with self._lock:
            if (paths := self._paths()) is None:
                return self._served
            files: dict[Path, _File] = {}
            served: dict[str, Checkpoint] = {}
            for path in paths:
                known = self._files.get(path)
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # removed since it was listed
                except OSError:
                    if known is None:
                        continue
                else:
                    version = status.st_ino, status.st_mtime_ns, status.st_size
                    if known is None or known.version != version:
                        known = _File(version, self._read(path))
                files[path] = known
                if known.checkpoint is not None:
                    served[known.checkpoint.name] = known.checkpoint
                elif (earlier := self._served.get(_name(path))) is not None:
                    served[earlier.name] = earlier
            self._files, self._served = files, served
            return served

    def _read(self, path: Path) -> Checkpoint | None:
        if not NAME_PATTERN.fullmatch(_name(path)):
            logger.warning(
                "skipped %s: a model's name is up to 100 letters, digits, dots, dashes and underscores", path
            )
            return None
        try:
            checkpoint = _open(path)
            checkpoint.check()
            logger.info("model %s: %d², digest %s", checkpoint.name, checkpoint.config.resolution, checkpoint.digest)
        except (InputError, OSError) as error:
            stays = "; what was served by this name still is" if _name(path) in self._served else ""
            logger.warning("skipped %s: %s%s", path, error, stays)
            return None
        return checkpoint

    def _paths(self) -> list[Path] | None:
        """The demo, then the folder's files, so that the folder's go before it. None where nobody can tell: a volume
        that fails for a moment takes no models away."""
        if self._folder is None:
            return [self._demo]
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.is_file())
            self._readable = True
        except OSError as error:
            if self._readable:
                logger.warning("the folder of checkpoints %s cannot be read: %s", self._folder, error.strerror)
            self._readable = False
            if not isinstance(error, FileNotFoundError):
                return None
            names = []
        return [self._demo, *(self._folder / name for name in names if not name.startswith("."))]


def _name(path: Path) -> str:
    return path.name.removesuffix(SUFFIX)


def _open(path: Path) -> Checkpoint:
    """A checkpoint that keeps its file open for as long as it is used itself. Raises InputError or OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        checkpoint = Checkpoint.open(path, Path(f"/dev/fd/{descriptor}"))
    except BaseException:
        os.close(descriptor)
        raise
    weakref.finalize(checkpoint, os.close, descriptor)
    return checkpoint


def find(models: Iterable[Checkpoint], name_or_digest: str) -> Checkpoint:
    """The checkpoint of that name or digest.

    Raises:
        InputError: there is none; the message names those that there are.
    """
    by_name = {checkpoint.name: checkpoint for checkpoint in models}
    # A digest goes first: no file may take another's place by being called so.
    for checkpoint in by_name.values():
        if checkpoint.digest == name_or_digest:
            return checkpoint
    if name_or_digest in by_name:
        return by_name[name_or_digest]
    asked = f"{name_or_digest!r} " if NAME_PATTERN.fullmatch(name_or_digest) else ""
    raise InputError("model", f"{asked}is no model of this service, which has {listing(by_name)}")


def open_checkpoint(file_or_demo: str) -> Checkpoint:
    """The checkpoint that a command line names: a file, or the word "demo" for the bundled one.

    Raises:
        InputError: the file is no checkpoint.
    """
    return Checkpoint.open(DEMO if file_or_demo == DEMO_NAME else Path(file_or_demo))


def listing(names: Iterable[str]) -> str:
    """Names for an error message."""
    names = sorted(names)
    if not names:
        return "none yet"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
