"""``python -m service.worker.project_picture CHECKPOINT DIGEST FOLDER STEPS [CLASS]``.

The folder has a file ``picture`` and perhaps ``mask``. Prints JSON lines: ``{"done": 20}``, now and then with the
latent so far as ``w``, and at the end ``psnr_w`` and ``psnr``; or ``{"field": …, "error": …}`` if a file cannot be
used.
"""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.latents.latent import pack_floats
from model.projection.project import project
from model.projection.target import read_target

NICE = 5
"""Rendering comes first, and yet this comes to an end where it takes all of the CPU."""

PREVIEWS = 10


def main(path: Path, digest: str, folder: Path, steps: int, class_index: int | None) -> None:
    """Print progress and result."""
    os.nice(NICE)
    checkpoint = Checkpoint.open(path)
    if checkpoint.digest != digest:
        sys.exit(f"{path} has been replaced by another checkpoint")
    picture, mask = folder / "picture", folder / "mask"
    between = max(1, steps // PREVIEWS)

    def tell(done: int, ws: Tensor) -> None:
        _print(done=done, **({"w": _base64(ws)} if done % between == 0 else {}))

    try:
        target = read_target(picture, mask if mask.exists() else None)
        found = project(checkpoint.load(), target, steps, class_index, tell)
    except InputError as error:
        _print(field=error.field, error=error.message)
    else:
        _print(done=steps, w=_base64(found.ws), psnr_w=found.psnr_w, psnr=found.psnr)


def _base64(ws: Any) -> str:
    return base64.b64encode(pack_floats(ws)).decode()


def _print(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    _, *paths = sys.argv
    main(Path(paths[0]), paths[1], Path(paths[2]), int(paths[3]), int(paths[4]) if paths[4:] else None)
