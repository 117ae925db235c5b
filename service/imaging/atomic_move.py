"""Finished files go to where users want them, whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path


@contextlib.contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """A hidden folder on the file system of ``output``, for what is not finished. In the end it goes with all in it.

    So do folders above it that were made for it and hold nothing.

    Raises:
        OSError: it cannot be made.
    """
    new = [folder for folder in output.absolute().parents if not folder.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):  # a folder that holds something stays, as do those above it
            for folder in new:
                folder.rmdir()


def place_file(file: Path, output: Path) -> None:
    """Flushes a finished file to disk and renames it to ``output``. Raises OSError."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    file.replace(output)


def tiles_folder(output: Path) -> Path:
    """Where viewers look for the tiles of the Deep Zoom picture ``NAME.dzi``: in ``NAME_files``."""
    return output.with_name(f"{output.stem}_files")


def place_deep_zoom(descriptor: Path, tiles: Path, output: Path, aside: Path) -> None:
    """Renames a picture's tiles, then its descriptor, to where they belong.

    What is there already goes first, the descriptor before its tiles, so that no viewer mixes two pictures. It comes
    back where this fails.

    Args:
        aside: a folder on the same file system, where nothing of these names is.

    Raises:
        OSError: something cannot be renamed.
    """
    with ExitStack() as undo:
        for old in (output, tiles_folder(output)):
            if old.exists():
                kept = aside / old.name
                old.rename(kept)
                undo.callback(kept.rename, old)
        tiles.rename(tiles_folder(output))
        undo.callback(tiles_folder(output).rename, tiles)
        descriptor.rename(output)
        undo.pop_all()
