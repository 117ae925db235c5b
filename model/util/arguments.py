"""Command lines whose errors are one line each, for ``creps`` and ``python -m model.training``."""

import argparse
import errno
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from model.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArgumentParser(argparse.ArgumentParser):
    """argparse, but a mistake is answered by one line on stderr and exit status 2, without the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run(program: str, command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit status: 2 with one line on stderr for what the user can mend."""
    try:
        command(arguments)
    except InputError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FULL:  # not about a file that the user named
            raise
        name = "" if error.filename is None else f"{error.filename}: "
        print(f"{program}: error: {name}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 0
