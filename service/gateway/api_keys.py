"""API keys: who may use the service, how urgent that is, and how much they may ask for.

A key is 256 random bits, of which only the SHA-256 is kept. A slow hash, as passwords need it, would protect nothing
here: nobody can try 2²⁵⁶ keys, however fast each trial is, and every request would have to wait for it.
"""

import hashlib
import hmac
import logging
import secrets
import time
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from model.errors import InputError
from service.queue import Priority
from service.validation import explain

logger = logging.getLogger(__name__)

NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"

KEY_BYTES = 32
"""Random bytes of a key: as many as its SHA-256 has."""

KEY_PREFIX = "creps_"
"""Begins every key that we make, so that scanners find those that were published by mistake."""

LOOK_SECONDS = 1.0
"""How old the last look at the file may be."""

MAX_FILE_BYTES = 1 << 20
"""Of a file of keys: some five thousand entries."""

MAX_REQUESTS, MAX_PIXELS = 10**6, 10**13
"""Largest budgets a minute. Lua's numbers, in which Redis counts them, are exact beyond that."""


class Key(BaseModel):
    """One entry of a file of keys.

    Attributes:
        name: tells whose key it is, in logs and in Redis.
        hash: ``sha256:`` and the hexadecimal SHA-256 of the key.
        priority: pictures of "batch" are drawn when no other picture waits.
        requests_per_minute, pixels_per_minute: its budgets over all gateways; None: unlimited.
        expires: the moment from which it is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=NAME_PATTERN)
    hash: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", repr=False)
    priority: Priority = "interactive"
    requests_per_minute: int | None = Field(None, ge=1, le=MAX_REQUESTS)
    pixels_per_minute: int | None = Field(None, ge=1, le=MAX_PIXELS)
    expires: AwareDatetime | None = None

    def matches(self, digest: str) -> bool:
        """Whether it is the key of that ``hash``, told in constant time."""
        return hmac.compare_digest(self.hash, digest)

    @property
    def has_expired(self) -> bool:
        return self.expires is not None and self.expires <= datetime.now(UTC)


def make_key() -> str:
    """A new key, which nobody can guess."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_of(key: bytes) -> str:
    """What an entry holds of a key."""
    return f"sha256:{hashlib.sha256(key).hexdigest()}"


def parse_keys(content: bytes) -> tuple[Key, ...]:
    """The entries of a file of keys: TOML with a table ``[[key]]`` for each.

    Raises:
        InputError: names the entry and the field at fault. What the field ``hash`` holds is never repeated.
    """
    if len(content) > MAX_FILE_BYTES:
        raise InputError("file", f"is above the limit of {MAX_FILE_BYTES} bytes")
    try:
        document = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # of which both Unicode's and TOML's are
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it cannot be decoded"
        raise InputError("file", f"is no TOML: {reason}") from None
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
            raise InputError(_title(number, key.name), f"{field} is that of an entry before it, too")
        names.add(key.name)
        hashes.add(key.hash)
    return keys


def _parse_entry(number: int, entry: Any) -> Key:
    try:
        return Key.model_validate(entry)
    except ValidationError as error:
        finding = error.errors()[0]
        field = str(finding["loc"][0]) if finding["loc"] else "entry"
        name = entry.get("name") if isinstance(entry, dict) else None
        reason = explain(finding, show_input=field != "hash")  # where somebody may have put the key itself
        raise InputError(_title(number, name), f"{field} {reason}") from None


def _title(number: int, name: object) -> str:
    return f"key {number} ({name[:64]!r})" if isinstance(name, str) else f"key {number}"


class KeyRing:
    """The keys in force: those of a setting, and those of a file, which is read again when it has changed.

    A changed file that cannot be used is refused with a line of log that names the entry; its last good content stays
    in force.

    Args:
        plain: keys as clients send them. They have no budgets, and are called by their place in the setting.
        file: as :func:`parse_keys` takes it.

    Raises:
        InputError: the file cannot be used.
    """

    def __init__(self, plain: Sequence[str], file: Path | None) -> None:
        self._plain = tuple(
            Key.model_construct(name=f"CREPS_API_KEYS:{place}", hash=hash_of(key.encode()))
            for place, key in enumerate(plain, 1)
        )
        self._file = file
        self._of_file: tuple[Key, ...] = ()
        self._state: tuple[int, ...] | None = None
        self._looked = time.monotonic()
        if file is not None:
            try:
                self._state = _state_of(file)
                self._of_file = parse_keys(file.read_bytes())
            except OSError as error:
                raise InputError("api_keys_file", f"{file} cannot be read: {error.strerror}") from None
            except InputError as error:
                raise InputError("api_keys_file", f"{file}: {error}") from None

    def find(self, given: bytes) -> Key | None:
        """The entry of a key. All are compared, each in constant time: how long it takes tells nothing of any."""
        self._look()
        digest = hash_of(given)
        found = [key for key in (*self._plain, *self._of_file) if key.matches(digest)]
        return found[0] if found else None

    def _look(self) -> None:
        if self._file is None or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            state = _state_of(self._file)
            if state == self._state:
                return
            self._state = state
            self._of_file = parse_keys(self._file.read_bytes())
            logger.info("%s has changed: %d keys are in force", self._file, len(self._of_file))
        except OSError as error:
            if self._state is not None:
                logger.error("%s cannot be read, its last keys stay in force: %s", self._file, error.strerror)
            self._state = None
        except InputError as error:
            logger.error("%s is refused, its last good keys stay in force: %s", self._file, error)


def _state_of(file: Path) -> tuple[int, ...]:
    """Differs once the file has changed, or another has taken its place."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
