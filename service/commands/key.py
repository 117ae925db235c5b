"""``creps key``: makes an API key. It is shown once, and kept nowhere."""

import re
import sys
from collections.abc import Sequence

from model.arguments import ArgumentParser
from model.errors import InputError
from service.gateway.keys import NAME_PATTERN, hash_of, make_key


def main(arguments: Sequence[str]) -> None:
    """Prints the key to stderr, and the entry of a file of keys to stdout. Raises InputError for a bad name."""
    parser = ArgumentParser(
        prog="creps key",
        description="Makes an API key: prints it once, to stderr, and to stdout the entry that goes into the file of "
        "CREPS_API_KEYS_FILE, as in: creps key viewer >> keys.toml",
    )
    parser.add_argument("name", metavar="NAME", help="whose key it is, for logs: letters, digits, . _ and -")
    name = parser.parse_args(arguments).name
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError("NAME", f"must match {NAME_PATTERN}")
    key = make_key()
    print(f"The key, which is not shown again: {key}", file=sys.stderr)
    print(f'[[key]]\nname = "{name}"\nhash = "{hash_of(key.encode())}"')
