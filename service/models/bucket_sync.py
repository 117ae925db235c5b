"""Copies of the checkpoints in a bucket, kept in a folder of this machine, where the catalog finds them."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import obstore

from model.checkpoint import NAME_PATTERN, SUFFIX, Checkpoint
from model.errors import InputError
from model.files import write_atomically
from service.catalog import Catalog
from service.outputs.store import STORE_ERRORS, open_store, reason
from service.queue import stop_task
from service.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks into the bucket."""

_LOCK_SECONDS = 0.1
"""Between two attempts to be the process that changes the folder."""

_CHUNK = 8 * 2**20
"""Bytes that are held of a file on its way, at least."""

_INDEX = ".index.json"
"""Which versions of the bucket's files have been copied, and which were refused."""


@dataclass(frozen=True)
class _Object:
    """A file of the bucket: its address there, its ETag (or its time, where the store has none) and its bytes."""

    path: str
    version: str
    size: int


class Mirror:
    """Makes a folder hold what a bucket holds. Several processes may share the folder; one at a time changes it.

    A file comes into the folder whole, and once its checkpoint has been read and checked; one that is refused leaves
    the one of its name that was there. So the last good version outlives this process, and a bucket that is away.

    Args:
        address: ``s3://bucket/prefix``; files in folders below the prefix are none of it.
        cache: folder of this machine; the copies lie in a folder of their own in it.
        limit: bytes of all copies together, beyond which further files are refused.

    Raises:
        InputError: the bucket's variables make no sense, or the folder cannot be written.
    """

    def __init__(self, address: str, cache: Path, limit: int) -> None:
        self._address = address
        self._limit = limit
        self._stopping = threading.Event()
        self._complaints: set[str] = set()
        self._earlier: set[str] = set()
        try:
            self._store = open_store(address)
        except InputError as error:
            raise InputError("models", error.message) from None
        self.folder = cache / hashlib.sha256(address.encode()).hexdigest()[:16]
        try:
            self._open_lock().close()
        except OSError as error:
            raise InputError("model_cache", f"{cache} cannot be written: {error.strerror}") from None

    async def follow(self) -> None:
        """Refreshes every few seconds until it is cancelled."""
        try:
            while True:
                await asyncio.to_thread(self.refresh)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._stopping.set()

    def refresh(self) -> None:
        """Fetches what is new and removes what is gone. What fails is logged once, and tried again the next time."""
        self._earlier, self._complaints = self._complaints, set()
        try:
            with self._locked():
                self._refresh()
        except STORE_ERRORS as error:
            if not self._stopping.is_set():
                self._complain(f"{self._address} cannot be copied at present: {reason(error)}")

    def _refresh(self) -> None:
        for left in self.folder.glob(".new-*"):  # by a process that was killed
            shutil.rmtree(left)
        objects = self._list()
        index = self._read_index()
        known = {name: index[name] for name in objects.keys() & index.keys()}
        for file in self.folder.glob(f"*{SUFFIX}"):
            if file.name not in objects:
                file.unlink()
                logger.info("model %s is gone from %s", file.name.removesuffix(SUFFIX), self._address)
        for name, found in objects.items():
            refused, copied = f"refused {found.version}", f"copied {found.version}"
            if known.get(name) == refused or (known.get(name) == copied and self._size(name) == found.size):
                continue
            if (good := self._fetch(name, found)) is not None:
                known[name] = copied if good else refused
                self._write_index(known)
        if known != index:
            self._write_index(known)

    def _list(self) -> dict[str, _Object]:
        """The bucket's checkpoints by their files' names."""
        found: dict[str, _Object] = {}
        for meta in obstore.list_with_delimiter(self._store)["objects"]:
            name = meta["path"].rpartition("/")[2]
            if name.endswith(SUFFIX) and NAME_PATTERN.fullmatch(name.removesuffix(SUFFIX)):
                found[name] = _Object(meta["path"], meta["e_tag"] or str(meta["last_modified"]), meta["size"])
        return found

    def _fetch(self, name: str, found: _Object) -> bool | None:
        """Copies one file. False where it is refused for what it is; None where it shall be tried again."""
        held = sum(file.stat().st_size for file in self.folder.glob(f"*{SUFFIX}") if file.name != name)
        room = min(self._limit - held, shutil.disk_usage(self.folder).free)
        if found.size > room:
            self._complain(
                f"{self._address}/{name} is not served: of its {found.size} bytes {room} fit the model cache"
            )
            return None
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as folder:
            copy = Path(folder) / name
            if not self._download(found, copy):
                return None
            try:
                Checkpoint.open(copy).check()
            except InputError as error:
                message = str(error).replace(str(copy), f"{self._address}/{name}")
                stays = "; what was served by this name still is" if self._size(name) else ""
                logger.warning("skipped %s%s", message, stays)
                return False
            copy.replace(self.folder / name)
        logger.info("copied %s/%s, %d bytes", self._address, name, found.size)
        return True

    def _download(self, found: _Object, copy: Path) -> bool:
        """False where the file is no longer the one that was listed, or nobody waits any more."""
        answer = obstore.get(self._store, found.path)
        meta = answer.meta
        if (meta["e_tag"] or str(meta["last_modified"]), meta["size"]) != (found.version, found.size):
            return False
        with copy.open("wb") as file:
            for chunk in answer.stream(min_chunk_size=_CHUNK):
                if self._stopping.is_set():
                    return False
                file.write(chunk)
        return copy.stat().st_size == found.size

    def _size(self, name: str) -> int | None:
        file = self.folder / name
        return file.stat().st_size if file.exists() else None

    def _read_index(self) -> dict[str, str]:
        try:
            values: Any = json.loads((self.folder / _INDEX).read_bytes())
            return {str(name): str(version) for name, version in values.items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}  # everything is copied again

    def _write_index(self, index: dict[str, str]) -> None:
        write_atomically(self.folder / _INDEX, json.dumps(index, indent=1).encode())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Waits for other processes and threads that change the folder. TimeoutError: nobody waits for us any more."""
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
        """Makes the folder where it is missing: it may be deleted at any time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return (self.folder / ".lock").open("w")

    def _complain(self, message: str) -> None:
        if message not in self._earlier | self._complaints:
            logger.warning(message)
        self._complaints.add(message)


@asynccontextmanager
async def open_catalog(settings: Settings) -> AsyncIterator[Catalog]:
    """The catalog of the setting ``models``; copies of a bucket are kept current while the block runs."""
    if not isinstance(settings.models, str):
        yield await asyncio.to_thread(Catalog, settings.models)
        return
    mirror = await asyncio.to_thread(Mirror, settings.models, settings.model_cache, settings.model_cache_bytes)
    following = asyncio.create_task(mirror.follow())
    try:
        yield Catalog(mirror.folder, refresh=mirror.refresh)
    finally:
        await stop_task(following)
