"""Atomic writing of files."""

import json
import os
import re
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is moved to ``path`` when it is complete and on disk, and removed if writing fails.

    Raises:
        OSError: the file cannot be written. Its ``filename`` is the path, even if the system names none (disk full).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named before it is created, so that an interrupt in between leaves no unknown file.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with terminate_as_interrupt(), temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):  # it may not exist
            temporary.unlink()


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left of files that they wrote into a folder. No process may be writing there."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}", path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """In the main thread, SIGTERM and SIGHUP without a handler act as Ctrl-C does, which removes partial files."""
    main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if main and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``. Raises as :func:`new_file`."""
    with new_file(path) as file:
        file.write(content)


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, or nothing. Raises OSError."""
    size = path.stat().st_size
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        os.truncate(path, size)
        raise


def write_json(path: Path, values: object) -> None:
    """Write indented JSON to ``path``. Raises as :func:`new_file`."""
    write_atomically(path, (json.dumps(values, indent=2) + "\n").encode())
