"""API keys with their priorities and budgets.

A key is 256 random bits, of which the file only has the SHA-256. A slow hash, as for passwords, would not add security:
2²⁵⁶ keys cannot be tried, however fast a trial is.
"""

import hashlib
import hmac
import logging
import secrets
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from model.errors import InputError
from model.util.text import counted
from service.gateway import audit
from service.queue.messages import Priority
from service.runtime.validation import explain, matching

logger = logging.getLogger(__name__)

NAME_PATTERN, NAME_WORDS = r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, '.', '_' and '-'"

Name = Annotated[str, matching(NAME_PATTERN, NAME_WORDS)]

KEY_BYTES = 32
"""Random bytes of a key, as many as its SHA-256 has."""

KEY_PREFIX = "creps_"
"""Prefix of every key, so that secret scanners find keys that were published by mistake."""

REFRESH_SECONDS = 1.0
"""Interval at which the file is checked for changes."""

MAX_FILE_BYTES = 1 << 20
"""Size of a file of keys, for about 5,000 entries."""

MAX_REQUESTS, MAX_PIXELS = 10**6, 10**13
"""Largest budgets per minute. Redis counts them as Lua numbers, which are exact beyond that."""


class APIKey(BaseModel):
    """One entry of a file of keys.

    Attributes:
        name: identifies the key in logs and in Redis.
        hash: ``sha256:`` and the hexadecimal SHA-256 of the key.
        priority: "batch" images are rendered when no other image waits.
        requests_per_minute, pixels_per_minute: budgets over all gateways; None for no limit.
        expires: time from which the key is refused.
        owner: whose jobs the key orders and sees; None for those of its name. Several keys may have one owner.
        all_jobs: whether the key sees, and can remove, the jobs of all owners.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    hash: Annotated[str, matching("sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits")] = Field(repr=False)
    priority: Priority = "interactive"
    requests_per_minute: int | None = Field(None, ge=1, le=MAX_REQUESTS)
    pixels_per_minute: int | None = Field(None, ge=1, le=MAX_PIXELS)
    expires: AwareDatetime | None = None
    owner: Name | None = None
    all_jobs: bool = False

    @property
    def has_expired(self) -> bool:
        return self.expires is not None and self.expires <= datetime.now(UTC)


def make_key() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_of(key: bytes) -> str:
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


def parse_keys(content: bytes) -> tuple[APIKey, ...]:
    """Parse a file of keys: TOML with a table ``[[key]]`` for each.

    Raises:
        InputError: names the entry and the field at fault. The value of ``hash`` is never repeated.
    """
    if len(content) > MAX_FILE_BYTES:
        raise InputError("file", f"is above the limit of {MAX_FILE_BYTES} bytes")
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # errors of UTF-8 and TOML are ValueErrors
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it cannot be decoded"
        raise InputError("file", f"is not TOML: {reason}") from None
    entries = document.pop("key", None)
    if document:
        raise InputError(next(iter(document)), "is unknown, entries begin with [[key]]")
    if not isinstance(entries, list) or not entries:
        raise InputError("key", "is missing: there must be at least one [[key]]")
    keys = tuple(_parse_entry(number, entry) for number, entry in enumerate(entries, 1))
    names, hashes = set[str](), set[str]()
    for number, key in enumerate(keys, 1):
        if key.name in names or key.hash in hashes:
            field = "name" if key.name in names else "hash"
            raise InputError(_title(number, key.name), f"{field} is used by an earlier entry")
        names.add(key.name)
        hashes.add(key.hash)
    return keys


def check_keys(file: Path) -> None:
    """Raise InputError, for the setting CREPS_API_KEYS_FILE, if the file cannot be used."""
    with naming_the_setting(file):
        parse_keys(file.read_bytes())


@contextmanager
def naming_the_setting(file: Path) -> Iterator[None]:
    """Errors of reading or parsing a file of keys as InputError of its setting."""
    try:
        yield
    except OSError as error:
        raise InputError("CREPS_API_KEYS_FILE", f"{file} cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError("CREPS_API_KEYS_FILE", f"{file}: {error}") from None


def _parse_entry(number: int, entry: Any) -> APIKey:
    try:
        return APIKey.model_validate(entry)
    except ValidationError as error:
        finding = error.errors()[0]
        field = str(finding["loc"][0]) if finding["loc"] else "entry"
        name = entry.get("name") if isinstance(entry, dict) else None
        reason = explain(finding, show_input=field != "hash")  # which may be the key itself, by mistake
        raise InputError(_title(number, name), f"{field} {reason}") from None


def _title(number: int, name: object) -> str:
    return f"key {number} ({name[:64]!r})" if isinstance(name, str) else f"key {number}"


def _plain_key(place: int, key: str) -> APIKey:
    digest = hash_of(key.encode())
    owner = f"CREPS_API_KEYS:{digest.removeprefix('sha256:')[:16]}"
    return APIKey.model_construct(name=f"CREPS_API_KEYS:{place}", hash=digest, owner=owner)


class APIKeyStore:
    """The keys of a setting, and of a file that is read again when it changes. Raises InputError if that is invalid.

    A changed file that is invalid is logged and ignored: the last valid content stays in use. The keys of the setting,
    ``plain``, have no budgets. Their names are their positions in it; their owners do not depend on these.
    """

    def __init__(self, plain: Sequence[str], file: Path | None) -> None:
        self._plain = tuple(_plain_key(place, key) for place, key in enumerate(plain, 1))
        self._file = file
        self._file_keys: tuple[APIKey, ...] = ()
        self._version: tuple[int, ...] | None = None
        self._checked = time.monotonic()
        if file is not None:
            with naming_the_setting(file):
                self._read(file)

    def find(self, given: bytes) -> APIKey | None:
        """The entry of a key. All entries are compared in constant time, so that the duration reveals nothing."""
        self._refresh()
        digest = hash_of(given)
        found = [key for key in (*self._plain, *self._file_keys) if hmac.compare_digest(key.hash, digest)]
        return found[0] if found else None

    def _refresh(self) -> None:
        if self._file is None or time.monotonic() - self._checked < REFRESH_SECONDS:
            return
        self._checked = time.monotonic()
        try:
            self._read(self._file)
        except OSError as error:
            if self._version is not None:
                logger.error("%s cannot be read, its last keys stay valid: %s", self._file, error.strerror)
            self._version = None
        except InputError as error:
            logger.error("%s is invalid, its last keys stay valid: %s", self._file, error)

    def _read(self, file: Path) -> None:
        """Reads the file if it was written or replaced since the last time."""
        status = file.stat()
        version = status.st_mtime_ns, status.st_size, status.st_ino
        if version != self._version:
            self._version = version
            before, self._file_keys = self._file_keys, parse_keys(file.read_bytes())
            logger.info("%s has %s", file, counted(len(self._file_keys), "key"))
            if before:  # else it is the first reading: a file has at least one key
                audit.keys_changed(file, *({key.name: key for key in keys} for keys in (before, self._file_keys)))
