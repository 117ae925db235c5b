"""Command lines with errors of one line, for ``creps`` and ``python -m model.training``."""

import argparse
import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

from model.errors import InputError
from model.util.garbage import collect_seldom

T = TypeVar("T")

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArgumentParser(argparse.ArgumentParser):
    """An argparse parser without abbreviations, whose errors are one line on stderr without the usage. Exit status 2.

    Args:
        renamed: for options of similar programs, what to suggest instead.
    """

    def __init__(self, *, renamed: Mapping[str, str] | None = None, **values: Any) -> None:
        super().__init__(allow_abbrev=False, **values)
        self._renamed = renamed or {}

    def parse_args(self, args: Sequence[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        self._suggest(args)
        return super().parse_args(args, namespace)

    def _suggest(self, arguments: Sequence[str]) -> None:
        """Exit with a suggestion for the first option that is misspelt or called otherwise in similar programs."""
        options = self._option_string_actions
        for before, argument in pairwise(("", *arguments)):
            word, action = argument.partition("=")[0], options.get(before)
            if action is not None and action.nargs == 0 and argument in ("0", "1", "true", "false", "True", "False"):
                self.error(f"{before} takes no value; did you mean {' or '.join(action.option_strings)}?")
            if word.startswith("--") and word != "--" and word not in options:
                longer = [option for option in options if option.startswith(word)]
                close = longer or get_close_matches(word, options, 1, 0.8)
                if suggestion := self._renamed.get(word) or " or ".join(close):
                    self.error(f"unrecognized argument {word}; did you mean {suggestion}?")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def some_of(choices: Iterable[T]) -> Callable[[str], tuple[T, ...]]:
    """An argparse type: one or more of the choices, separated by commas."""
    by_name = {str(choice): choice for choice in choices}

    def parse(text: str) -> tuple[T, ...]:
        names = dict.fromkeys(text.split(","))
        if unknown := [name for name in names if name not in by_name]:
            raise argparse.ArgumentTypeError(f"must be of {','.join(by_name)}, not {unknown[0][:40]!r}")
        return tuple(by_name[name] for name in names)

    return parse


def run(program: str, command: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Run a command and return its exit status: 2, with one line on stderr, for invalid input."""
    collect_seldom()
    try:
        command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_gone():  # some other pipe, of a child process or a socket
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 128 + signal.SIGPIPE  # the reader, such as head, has seen enough
    except InputError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FULL:  # not about a file of the user
            raise
        name = "" if error.filename is None else f"{error.filename}: "
        print(f"{program}: error: {name}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 0


def _reader_has_gone() -> bool:
    """Whether stdout is a pipe that nobody reads."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
