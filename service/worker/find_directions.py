"""``python -m service.worker.find_directions CHECKPOINT DIGEST OUTPUT``: writes a file of a checkpoint's directions."""

import os
import sys
from pathlib import Path

from model.checkpoint import Checkpoint
from model.latents.direction import encode_directions
from model.latents.direction_files import load_directions

NICE = 5
"""Rendering comes first, and yet this comes to an end where it takes all of the CPU."""


def main(path: Path, digest: str, output: Path) -> None:
    """Find the directions, or read them from the file beside the checkpoint. Raises InputError."""
    os.nice(NICE)
    checkpoint = Checkpoint.open(path)
    if checkpoint.digest != digest:
        sys.exit(f"{path} has been replaced by another checkpoint")
    output.write_bytes(encode_directions(list(load_directions(checkpoint).values()), checkpoint.config))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
