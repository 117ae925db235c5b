"""The directions of a checkpoint, computed once and kept in a file beside it."""

import logging
import os
import threading
from pathlib import Path

from model.checkpoint import Checkpoint
from model.latents.direction import VERSION, Direction, decode_directions, encode_directions
from model.latents.directions import find_directions
from model.util.files import write_atomically

logger = logging.getLogger(__name__)

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
    try:
        return decode_directions(path.read_bytes(), checkpoint.config)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be used, so its directions are computed again: %s", path, error)
        return None


def _write(directions: list[Direction], checkpoint: Checkpoint) -> None:
    """Into the first folder that can be written; without one they are computed again the next time."""
    content = encode_directions(directions, checkpoint.config)
    for path in _paths(checkpoint):
        try:
            write_atomically(path, content)
            return
        except OSError as error:
            logger.debug("the directions cannot be kept in %s: %s", path, error)
