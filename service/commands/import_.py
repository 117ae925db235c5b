"""``creps import``: convert an original CREPS pickle without running code in it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from model.util.arguments import ArgumentParser

TRAINING_SUFFIX = ".pt"


def main(arguments: Sequence[str]) -> None:
    """Convert a pickle and print what it contains. Raises InputError if it cannot be converted."""
    parser = ArgumentParser(
        prog="creps import",
        description="Converts the pickle of an original CREPS network into a checkpoint for rendering or, if the "
        "destination ends in .pt, all of its networks into a file to continue training from (creps train --transfer). "
        "The pickle is read as data: no code in it is run.",
    )
    parser.add_argument("source", metavar="SOURCE.pkl", type=Path, help="an original network snapshot")
    parser.add_argument(
        "destination", metavar="DEST", type=Path, help="file to write: NAME.safetensors, or NAME.pt for training"
    )
    options = parser.parse_args(arguments)

    from model.official.generator import import_pickle  # not at the top: --help and errors need no torch

    if sys.stderr.isatty():
        print(f"converting {options.source} …", file=sys.stderr)
    if options.destination.suffix == TRAINING_SUFFIX:
        from model.training.official_state import import_networks

        config, what = import_networks(options.source, options.destination), "generator and discriminator"
    else:
        checkpoint = import_pickle(options.source, options.destination)
        config, what = checkpoint.config, f"digest {checkpoint.digest}"
    classes = f"{config.classes} classes" if config.classes else "unconditional"
    print(f"{options.destination}: {config.resolution}×{config.resolution}, {classes}, {what}")
