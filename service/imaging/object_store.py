"""The object store that holds outputs: a folder or an S3 bucket."""

import asyncio
import contextlib
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from model.errors import InputError

if TYPE_CHECKING:
    from obstore import Attributes, WritableFile

Store = ObjectStore

STORE_ERRORS = (BaseError, OSError)
"""Exceptions that stores raise. FileNotFoundError, for a missing object, is an OSError."""

_RETRY_TIMEOUT = timedelta(seconds=20)
"""How long failed requests to a bucket are retried."""

_DELETED_AT_ONCE = 1000
"""S3's limit for one request."""

_PART_BYTES, _PARTS = 8 << 20, 9_000
"""Smallest size and largest number of the parts of a multipart upload. S3 allows at most 10,000 parts."""


def open_store(address: str, field: str = "outputs") -> Store:
    """The store at ``file:///folder`` or ``s3://bucket/prefix``. A missing folder is made.

    S3's key, region and endpoint come from the usual variables: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and so on, or from the machine's role. Raises InputError for ``field`` if the
    folder cannot be made, the variables are invalid, or the address is ``memory://``, which processes cannot share.
    """
    if address.startswith("memory:"):
        raise InputError(field, f"must be a folder or a bucket, not {address}: processes cannot share it")
    try:
        if address.startswith("file:"):
            folder = Path(unquote(urlsplit(address).path))
            return LocalStore(prefix=folder, automatic_cleanup=True, mkdir=True)
        return from_url(address, retry_config={"max_retries": 5, "retry_timeout": _RETRY_TIMEOUT})
    except (ValueError, *STORE_ERRORS) as error:
        raise InputError(field, f"{address} cannot be used: {error}".partition("\n")[0]) from None


async def put_once(store: Store, path: str, content: bytes) -> bool:
    """Write an object atomically, unless it exists already; then return False. Raises STORE_ERRORS.

    Two writers in a folder at the same time may both succeed. Their objects are equal, and this needs no hard links,
    which exFAT, SMB and FUSE file systems lack.
    """
    if isinstance(store, LocalStore):
        if await exists(store, path):
            return False
        await obstore.put_async(store, path, content)
        return True
    try:
        await obstore.put_async(store, path, content, mode="create")
    except AlreadyExistsError:
        return False
    return True


def open_writer(store: Store, path: str, size: int, attributes: "Attributes | None" = None) -> "WritableFile":
    """A writer for an object of about ``size`` bytes, which appears when its block ends, unless by an exception."""
    buffer_size = max(_PART_BYTES, size // _PARTS)
    return obstore.open_writer(store, path, buffer_size=buffer_size, attributes=attributes)


async def exists(store: Store, path: str) -> bool:
    """Whether an object exists. Raises STORE_ERRORS if the store fails."""
    try:
        await obstore.head_async(store, path)
    except FileNotFoundError:
        return False
    return True


async def delete_folder(store: Store, folder: str) -> None:
    """Delete all objects below ``folder``, if there are any.

    Raises STORE_ERRORS, and ValueError if the folder is the whole store, or outside it.
    """
    if any(part in ("", ".", "..") for part in folder.split("/")):
        raise ValueError(f"{folder!r} is no folder of the store")
    if isinstance(store, LocalStore):
        assert store.prefix is not None  # noqa: S101 - open_store sets it
        # Removes the partial files of killed processes, too, which the store does not list.
        await asyncio.to_thread(_remove_tree, Path(store.prefix) / folder)
        return
    async for objects in obstore.list(store, folder, chunk_size=_DELETED_AT_ONCE):
        with contextlib.suppress(FileNotFoundError):
            await obstore.delete_async(store, [found["path"] for found in objects])


def _remove_tree(folder: Path) -> None:
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):  # another process deletes in it, too: try again
            shutil.rmtree(folder)


async def sign(store: Store, path: str, seconds: int, method: Literal["GET", "HEAD"] = "GET") -> str | None:
    """A presigned URL to read an object with this method, or None for a folder."""
    if isinstance(store, S3Store):
        return await obstore.sign_async(store, method, path, timedelta(seconds=seconds))
    return None


_REASONS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Permission denied|Read-only file system"
    r"|Access ?Denied|NoSuchBucket"
)


def describe(error: BaseException) -> str:
    """A store's error as one line for users, without paths and internals."""
    return f"the store failed: {reason(error)}"


def reason(error: BaseException) -> str:
    """The reason of a store's error, in a few words."""
    found = _REASONS.search(str(error))
    return found[0] if found else getattr(error, "strerror", None) or type(error).__name__
