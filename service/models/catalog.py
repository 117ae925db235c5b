"""The served checkpoints: the files of one folder, and the bundled demo."""

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
"""The bundled checkpoint. A file of the same name in the folder takes precedence."""

_NAMED = 20
"""Largest number of models listed in an error."""


@dataclass(frozen=True)
class _File:
    """A file as last read: inode, modification time and size; no checkpoint if it is invalid."""

    version: tuple[int, int, int]
    checkpoint: Checkpoint | None


class Catalog:
    """Finds a checkpoint by its name or digest. Thread-safe; needs no torch.

    Each call checks for new, removed and changed files, and reads only those. Names given by users are looked up among
    the files found, never turned into paths.

    An invalid file does not replace the valid one that it overwrote while this process runs. Files stay open while they
    are served, so their contents stay readable after they are replaced or deleted.

    Args:
        folder: with ``*.safetensors`` files, named after their models; None for the demo only.
        demo: the bundled checkpoint; may be missing.
        refresh: fetches files into the folder; called when a model is not found.
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
        """All valid checkpoints, ordered by name."""
        return sorted(self._scan().values(), key=lambda checkpoint: checkpoint.name)

    def default(self) -> Checkpoint | None:
        """The model that the explorer page begins with, and that workers load first: the demo, or the first by name."""
        models = self.models()
        return next((checkpoint for checkpoint in models if checkpoint.name == DEMO_NAME), next(iter(models), None))

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
                    continue  # deleted since it was listed
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
            logger.warning("skipped %s: a model name has up to 100 letters, digits, dots, dashes and underscores", path)
            return None
        try:
            checkpoint = _open(path)
            checkpoint.check()
            logger.info("model %s: %d², digest %s", checkpoint.name, checkpoint.config.resolution, checkpoint.digest)
        except (InputError, OSError) as error:
            stays = "; the earlier model of this name is still served" if _name(path) in self._served else ""
            logger.warning("skipped %s: %s%s", path, error, stays)
            return None
        return checkpoint

    def _paths(self) -> list[Path] | None:
        """The demo, then the files of the folder, which take precedence. None if the folder cannot be read: its models
        stay."""
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
    """A checkpoint that keeps its file open while it is referenced. Raises InputError or OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        checkpoint = Checkpoint.open(path, Path(f"/dev/fd/{descriptor}"))
    except BaseException:
        os.close(descriptor)
        raise
    weakref.finalize(checkpoint, os.close, descriptor)
    return checkpoint


def find(models: Iterable[Checkpoint], name_or_digest: str) -> Checkpoint:
    """The checkpoint of that name or digest. Raises InputError, which lists the models, if there is none."""
    by_name = {checkpoint.name: checkpoint for checkpoint in models}
    # Digests take precedence, so that no file name can stand in for one.
    for checkpoint in by_name.values():
        if checkpoint.digest == name_or_digest:
            return checkpoint
    if name_or_digest in by_name:
        return by_name[name_or_digest]
    asked = f"{name_or_digest!r} " if NAME_PATTERN.fullmatch(name_or_digest) else ""
    raise InputError("model", f"{asked}not found; available: {list_names(by_name)}")


def open_checkpoint(file_or_demo: str) -> Checkpoint:
    """Open a file, or the bundled checkpoint for "demo". Raises InputError if the file is not a checkpoint."""
    path = DEMO if file_or_demo == DEMO_NAME else Path(file_or_demo)
    if not path.exists():
        raise InputError("checkpoint", f'{path} does not exist; "{DEMO_NAME}" is the bundled checkpoint')
    return Checkpoint.open(path)


def list_names(names: Iterable[str]) -> str:
    """Sorted names for an error message, at most _NAMED of them."""
    names = sorted(names)
    if not names:
        return "none yet"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
