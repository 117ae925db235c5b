"""One run at a time in a folder."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import InputError
from model.util.files import remove_partial_files

LOCK = "run.lock"


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Locks a run's folder, which is made if it is missing, and removes partial files that killed runs left.

    The lock ends with the process. Processes that read images do not inherit it, so they may outlive a killed run.
    Raises InputError if another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise InputError("outdir", f"another run is writing to {folder}") from None
            # Else the file system has no locks.
        remove_partial_files(folder)
        yield
