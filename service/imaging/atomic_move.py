"""Atomic moves of finished files to their final paths."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path


@contextlib.contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """A hidden temporary folder on the file system of ``output``, deleted at the end. Raises OSError.

    Missing parent folders of ``output`` are made, and removed again at the end if they are empty.
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
        with contextlib.suppress(OSError):  # a folder that is not empty stays, as do its parents
            for folder in new:
                folder.rmdir()


def move_file(file: Path, output: Path) -> None:
    """Flush a finished file to disk and rename it to ``output``. Raises OSError."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    file.replace(output)


def tiles_folder(output: Path) -> Path:
    """The folder of the tiles of a Deep Zoom image: ``NAME_files`` for ``NAME.dzi``."""
    return output.with_name(f"{output.stem}_files")


def move_deep_zoom(descriptor: Path, tiles: Path, output: Path, aside: Path) -> None:
    """Rename the tiles of a Deep Zoom image, then its descriptor, to their final paths. Raises OSError.

    Existing files are moved away first, the descriptor before its tiles, so that no viewer mixes two images. They are
    moved back if a rename fails. ``aside`` is an empty folder on the same file system.
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
