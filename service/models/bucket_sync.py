"""Copies of a bucket's checkpoints, and of their directions' names, in a local folder, from which the catalog serves
them."""

import asyncio
import fcntl
import hashlib
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import obstore

from model.checkpoint import NAME_PATTERN, SUFFIX, Checkpoint
from model.errors import InputError
from model.latents import direction_names
from model.util.files import write_atomically
from service.imaging.object_store import STORE_ERRORS, open_store, reason
from service.models.catalog import Catalog
from service.runtime.redis import running_task
from service.runtime.settings import CommonSettings

if TYPE_CHECKING:
    from obstore import ObjectMeta

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 5.0
"""Interval between two listings of the bucket."""

_LOCK_SECONDS = 0.1
"""Interval between two attempts to lock the folder."""

_CHUNK = 8 * 2**20
"""Smallest chunk of a download in bytes."""

SUFFIXES = (SUFFIX, direction_names.SUFFIX)
"""Files that are copied: checkpoints, and the names of their directions."""

_INDEX = ".index.json"
"""File with the versions that have been copied or refused."""


class BucketSync:
    """Mirrors the checkpoints of a bucket in a local folder. Processes may share the folder; a lock serializes changes.

    A file is moved into the folder after its checkpoint has been read and checked. An invalid file does not replace the
    last valid one of that name, which so survives restarts and outages of the bucket. Subfolders are ignored, and so
    are files beyond ``limit`` bytes of all copies together. Raises InputError if the bucket's variables are invalid, or
    the folder ``cache`` cannot be written.
    """

    def __init__(self, address: str, cache: Path, limit: int) -> None:
        self._address = address
        self._limit = limit
        self._stopping = threading.Event()
        self._warnings: set[str] = set()
        self._earlier_warnings: set[str] = set()
        self._store = open_store(address, "models")
        self.folder = cache / hashlib.sha256(address.encode()).hexdigest()[:16]
        try:
            self._open_lock().close()
        except OSError as error:
            raise InputError("model_cache", f"{cache} cannot be written: {error.strerror}") from None

    async def run(self) -> None:
        """Refresh every few seconds until cancelled."""
        try:
            while True:
                await asyncio.to_thread(self.refresh)
                await asyncio.sleep(REFRESH_SECONDS)
        finally:
            self._stopping.set()

    def refresh(self) -> None:
        """Copy new files and delete those gone from the bucket. Failures are logged once, and retried each time."""
        self._earlier_warnings, self._warnings = self._warnings, set()
        try:
            with self._locked():
                self._refresh()
        except STORE_ERRORS as error:
            if not self._stopping.is_set():
                self._warn_once(f"{self._address} cannot be copied: {reason(error)}")

    def _refresh(self) -> None:
        for left in self.folder.glob(".new-*"):  # by killed processes
            shutil.rmtree(left)
        objects = self._list()
        index = self._read_index()
        known = {name: index[name] for name in objects.keys() & index.keys()}
        for file in self._files():
            if file.name not in objects:
                file.unlink()
                logger.info("%s is gone from %s", file.name, self._address)
        for name, found in objects.items():
            refused, copied = f"refused {_version(found)}", f"copied {_version(found)}"
            if known.get(name) == refused or (known.get(name) == copied and self._size(name) == found["size"]):
                continue
            if (good := self._fetch(name, found)) is not None:
                known[name] = copied if good else refused
                self._write_index(known)
        if known != index:
            self._write_index(known)

    def _list(self) -> "dict[str, ObjectMeta]":
        """The files of the bucket that are copied, by name."""
        found: dict[str, ObjectMeta] = {}
        for meta in obstore.list_with_delimiter(self._store)["objects"]:
            name = meta["path"].rpartition("/")[2]
            if any(name.endswith(suffix) and NAME_PATTERN.fullmatch(name.removesuffix(suffix)) for suffix in SUFFIXES):
                found[name] = meta
        return found

    def _fetch(self, name: str, found: "ObjectMeta") -> bool | None:
        """Copy one file. False if it is no valid checkpoint; None if the copy is to be tried again."""
        held = sum(file.stat().st_size for file in self._files() if file.name != name)
        room = min(self._limit - held, shutil.disk_usage(self.folder).free)
        size = found["size"]
        if size > room:
            self._warn_once(f"{self._address}/{name} is not served: it has {size} bytes, the cache {room} left")
            return None
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as folder:
            copy = Path(folder) / name
            if not self._download(found, copy):
                return None
            try:
                _check(copy)
            except InputError as error:
                message = str(error).replace(str(copy), f"{self._address}/{name}")
                stays = "; the earlier file of this name is still served" if self._size(name) else ""
                logger.warning("skipped %s%s", message, stays)
                return False
            copy.replace(self.folder / name)
        logger.info("copied %s/%s, %d bytes", self._address, name, size)
        return True

    def _download(self, found: "ObjectMeta", copy: Path) -> bool:
        """False if the file has changed since it was listed, or the sync is stopping."""
        answer = obstore.get(self._store, found["path"])
        if _version(answer.meta) != _version(found) or answer.meta["size"] != found["size"]:
            return False
        with copy.open("wb") as file:
            for chunk in answer.stream(min_chunk_size=_CHUNK):
                if self._stopping.is_set():
                    return False
                file.write(chunk)
        return copy.stat().st_size == found["size"]

    def _files(self) -> list[Path]:
        """The copies."""
        return [file for suffix in SUFFIXES for file in self.folder.glob(f"*{suffix}")]

    def _size(self, name: str) -> int | None:
        file = self.folder / name
        return file.stat().st_size if file.exists() else None

    def _read_index(self) -> dict[str, str]:
        try:
            values: Any = json.loads((self.folder / _INDEX).read_bytes())
            return {str(name): str(version) for name, version in values.items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}  # all files are copied again

    def _write_index(self, index: dict[str, str]) -> None:
        write_atomically(self.folder / _INDEX, json.dumps(index, indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the folder. Raises TimeoutError if the sync stops first."""
        with self._open_lock() as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._stopping.wait(_LOCK_SECONDS):
                        raise TimeoutError from None
            yield

    def _open_lock(self) -> TextIO:
        """Make the folder, which may be deleted at any time, and open its lock file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return (self.folder / ".lock").open("w")

    def _warn_once(self, message: str) -> None:
        if message not in self._earlier_warnings | self._warnings:
            logger.warning(message)
        self._warnings.add(message)


def _check(copy: Path) -> None:
    """Raise InputError if a checkpoint or a file of names is invalid."""
    if copy.name.endswith(SUFFIX):
        Checkpoint.open(copy).check()
    else:
        direction_names.read_names_file(copy)


def _version(meta: "ObjectMeta") -> str:
    return meta["e_tag"] or str(meta["last_modified"])


@asynccontextmanager
async def open_catalog(settings: CommonSettings) -> AsyncIterator[Catalog]:
    """The catalog of the setting ``models``. Copies of a bucket are refreshed while the block runs."""
    if not isinstance(settings.models, str):
        yield await asyncio.to_thread(Catalog, settings.models)
        return
    if settings.model_cache is None:
        raise InputError("model_cache", "is required: this user has no home folder for the copies of a bucket")
    sync = await asyncio.to_thread(BucketSync, settings.models, settings.model_cache, settings.model_cache_bytes)
    async with running_task(sync.run()):
        yield Catalog(sync.folder, refresh=sync.refresh)
