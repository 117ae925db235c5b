"""The directions of a checkpoint, computed once and kept in a file beside it."""

import io
import logging
import os
import threading
import zipfile
from pathlib import Path

import numpy as np

from model.checkpoint import Checkpoint
from model.latents.directions import Direction, find_directions
from model.util.files import write_atomically

logger = logging.getLogger(__name__)

VERSION = 1
"""Part of the files' names: increase it when other directions are found."""

_computing = threading.Lock()


def load_directions(checkpoint: Checkpoint) -> dict[str, Direction]:
    """The directions of a checkpoint by name, from its file or, the first time, computed.

    The file lies beside the checkpoint, or in the user's cache folder if that cannot be written. Raises InputError if
    the checkpoint cannot be loaded.
    """
    with _computing:
        for path in _paths(checkpoint):
            if (found := _read(path, checkpoint)) is not None:
                return found
        directions = find_directions(checkpoint.load())
        _write(directions, checkpoint)
    return {direction.name: direction for direction in directions}


def _paths(checkpoint: Checkpoint) -> tuple[Path, Path]:
    """Beside the checkpoint, and in the cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "creps"
    name = f"directions{VERSION}-{checkpoint.digest}.npz"
    return checkpoint.path.with_name(f"{checkpoint.name}.{name}"), cache / name


def _read(path: Path, checkpoint: Checkpoint) -> dict[str, Direction] | None:
    """None if there is no such file, or it is damaged."""
    config = checkpoint.config
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            names, axes, numbers, layers = (arrays[name] for name in ("names", "axes", "numbers", "layers"))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read, so its directions are computed again: %s", path, error)
        return None
    shapes = (axes.shape, numbers.shape, layers.shape)
    expected = tuple((len(names), length) for length in (config.w_dim, 5, config.num_ws))
    if shapes != expected or not np.isfinite(axes).all() or not np.isfinite(numbers).all():
        logger.warning("%s does not fit its checkpoint, so its directions are computed again", path)
        return None
    return {
        str(name): Direction(str(name), tuple(np.flatnonzero(mask).tolist()), axis, *row.tolist())
        for name, axis, row, mask in zip(names, axes, numbers, layers, strict=True)
    }


def _write(directions: list[Direction], checkpoint: Checkpoint) -> None:
    """Into the first folder that can be written; without one they are computed again the next time."""
    w_dim, num_ws = checkpoint.config.w_dim, checkpoint.config.num_ws
    numbers = [(each.sigma, each.effect, each.ratio, each.luma, each.chroma) for each in directions]
    content = io.BytesIO()
    np.savez(
        content,
        names=np.array([each.name for each in directions], "<U9"),
        axes=np.array([each.axis for each in directions], np.float64).reshape(-1, w_dim),
        numbers=np.array(numbers, np.float64).reshape(-1, 5),
        layers=np.array([[style in each.layers for style in range(num_ws)] for each in directions]).reshape(-1, num_ws),
    )
    for path in _paths(checkpoint):
        try:
            write_atomically(path, content.getvalue())
            return
        except OSError as error:
            logger.debug("the directions cannot be kept in %s: %s", path, error)
