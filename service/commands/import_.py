"""``creps import``: converts an original CREPS pickle without running the code inside it."""

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from model.arguments import ArgumentParser

TRAINING_SUFFIX = ".pt"


def main(arguments: Sequence[str]) -> None:
    """Parses the command line, converts, and says what became of the file. Raises InputError for a bad source."""
    parser = ArgumentParser(
        prog="creps import",
        description="Converts the pickle of an original CREPS network into a checkpoint to draw with, or, where the\n"
        "destination ends in .pt, all of its networks into a file to train on with (creps train --transfer).\n"
        "The pickle is read as data: nothing that it names or carries is run.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE.pkl", type=Path, help="an original network snapshot")
    parser.add_argument(
        "destination", metavar="DEST", type=Path, help="what to write: NAME.safetensors, or NAME.pt to train on with"
    )
    options = parser.parse_args(arguments)

    from model.importer import import_pickle  # here, so that --help and mistakes need no torch

    if sys.stderr.isatty():
        print(f"converting {options.source} …", file=sys.stderr)
    if options.destination.suffix == TRAINING_SUFFIX:
        from model.training.originals import import_networks

        config, what = import_networks(options.source, options.destination), "generator and discriminator"
    else:
        checkpoint = import_pickle(options.source, options.destination)
        config, what = checkpoint.config, f"digest {checkpoint.digest}"
    classes = f"{config.classes} classes" if config.classes else "unconditional"
    print(f"{options.destination}: {config.resolution}×{config.resolution}, {classes}, {what}")
