"""``creps key``: make an API key, which is printed once and stored nowhere."""

import re
import sys
from collections.abc import Sequence

from model.errors import InputError
from model.util.arguments import ArgumentParser
from service.gateway.api_keys import NAME_PATTERN, NAME_WORDS, hash_of, make_key


def main(arguments: Sequence[str]) -> None:
    """Print a key to stderr and its entry for the key file to stdout. Raises InputError for an invalid name."""
    parser = ArgumentParser(
        prog="creps key",
        description="Makes an API key. Prints the key to stderr, and its entry for the file of CREPS_API_KEYS_FILE to "
        "stdout: creps key viewer >> keys.toml",
    )
    parser.add_argument("name", metavar="NAME", help="name of the client, for logs: letters, digits, . _ and -")
    name = parser.parse_args(arguments).name
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError("NAME", f"must be {NAME_WORDS}, not {name[:64]!r}")
    key = make_key()
    print(f"The key, which is not shown again: {key}", file=sys.stderr)
    print(f'[[key]]\nname = "{name}"\nhash = "{hash_of(key.encode())}"')
