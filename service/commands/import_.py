"""``creps import``: converts an original CREPS pickle without running the code inside it."""

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from model.arguments import ArgumentParser


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, converts, and says what became of the file. Raises InputError for a bad source."""
    parser = ArgumentParser(
        prog="creps import",
        description="Converts the pickle of an original CREPS network into a checkpoint.\n"
        "The pickle is read as data: nothing that it names or carries is run.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE.pkl", type=Path, help="an original network snapshot")
    parser.add_argument("destination", metavar="DEST.safetensors", type=Path, help="the checkpoint to be written")
    options = parser.parse_args(arguments)

    from model.importer import import_pickle  # here, so that --help and mistakes need no torch

    if sys.stderr.isatty():
        print(f"converting {options.source} …", file=sys.stderr)
    checkpoint = import_pickle(options.source, options.destination)
    config = checkpoint.config
    classes = f"{config.classes} classes" if config.classes else "unconditional"
    print(f"{checkpoint.path}: {config.resolution}×{config.resolution}, {classes}, digest {checkpoint.digest}")
