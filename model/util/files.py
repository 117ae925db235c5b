"""Files that are never seen half-written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under ``path`` when it is complete and on disk; nothing is left of one that fails.

    Raises:
        OSError: it cannot be written; ``filename`` is the path, also where the system names none, as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named before it is made: an interrupt between the two would leave a file that nobody knows.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with suppress(OSError):  # of what could not be made either
            temporary.unlink()


def write_atomically(path: Path, content: bytes) -> None:
    """Writes ``content`` to a :func:`new_file`, and raises what it raises."""
    with new_file(path) as file:
        file.write(content)
