"""The object store that outputs are kept in: a folder, a bucket of S3, or this process's memory."""

import asyncio
import contextlib
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store, from_url

from model.errors import InputError

Store = ObjectStore

STORE_ERRORS = (BaseError, OSError)
"""What a store may raise. FileNotFoundError, for what is not there, is among them."""

_RETRY_TIMEOUT = timedelta(seconds=20)
"""How long a bucket's errors are met with another attempt before they count; whoever asked has patience of its own."""

_DELETED_AT_ONCE = 1000
"""S3's limit for one request."""


def open_store(address: str) -> Store:
    """The store at ``file:///folder``, ``s3://bucket/prefix`` or ``memory://``; a folder is made if need be.

    S3's key, region and endpoint come from the usual variables: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and so on, or from the machine's role.

    Raises:
        InputError: the folder cannot be made, or the bucket's variables make no sense.
    """
    if address.startswith("memory:"):
        return MemoryStore()
    if address.startswith("file:"):
        return folder_store(Path(unquote(urlsplit(address).path)))
    try:
        return from_url(address, retry_config={"max_retries": 5, "retry_timeout": _RETRY_TIMEOUT})
    except (ValueError, *STORE_ERRORS) as error:
        raise InputError("outputs", f"{address} cannot be used: {error}".partition("\n")[0]) from None


def open_shared_store(address: str) -> Store:
    """As :func:`open_store`, for gateways and workers. Raises InputError where each would have a store of its own."""
    if address.startswith("memory:"):
        raise InputError("--outputs", "memory:// would be another one in each process; name a folder or a bucket")
    return open_store(address)


def folder_store(folder: Path) -> LocalStore:
    """A folder of this machine as a store. Raises InputError where it cannot be made."""
    try:
        return LocalStore(prefix=folder, automatic_cleanup=True, mkdir=True)
    except STORE_ERRORS:
        raise InputError("outputs", f"the folder {folder} cannot be made or read") from None


async def put_once(store: Store, path: str, content: bytes) -> bool:
    """Writes an object that nobody ever changes, whole or not at all. False where it is there already.

    Raises:
        STORE_ERRORS: it cannot be written.
    """
    try:
        await obstore.put_async(store, path, content, mode="create")
    except AlreadyExistsError:
        return False
    return True


async def exists(store: Store, path: str) -> bool:
    """Whether there is such an object. Raises STORE_ERRORS where nobody can tell."""
    try:
        await obstore.head_async(store, path)
    except FileNotFoundError:
        return False
    return True


async def delete_folder(store: Store, folder: str) -> None:
    """Deletes all objects below ``folder``. What is not there is no error.

    Raises:
        STORE_ERRORS: something could not be deleted.
        ValueError: the folder is the whole store, or not in it.
    """
    if any(part in ("", ".", "..") for part in folder.split("/")):
        raise ValueError(f"{folder!r} is no folder of the store")
    if isinstance(store, LocalStore):
        assert store.prefix is not None  # noqa: S101 - folder_store gives one
        # What a killed process left half-written is no object, but a file all the same.
        await asyncio.to_thread(_remove_tree, Path(store.prefix) / folder)
        return
    async for objects in obstore.list(store, folder, chunk_size=_DELETED_AT_ONCE):
        with contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(store, [found["path"] for found in objects])


def _remove_tree(folder: Path) -> None:
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):  # another has deleted something in it, where this ends: once more
            shutil.rmtree(folder)


async def sign(store: Store, path: str, seconds: int, method: Literal["GET", "HEAD"] = "GET") -> str | None:
    """An address under which anyone may read an object for a while, by this method alone, where the store can give
    one."""
    if isinstance(store, S3Store):
        return await obstore.sign_async(store, method, path, timedelta(seconds=seconds))
    return None


_REASONS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Permission denied|Read-only file system"
    r"|Access ?Denied|NoSuchBucket"
)


def describe(error: BaseException) -> str:
    """A store's error as one line for users: without paths, and without what only the store's makers understand."""
    return f"the store failed: {reason(error)}"


def reason(error: BaseException) -> str:
    """Why a store failed, in a few words."""
    found = _REASONS.search(str(error))
    return found[0] if found else getattr(error, "strerror", None) or type(error).__name__
