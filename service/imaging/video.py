"""Video files: groups of frames as objects of a store, joined into the file of a VideoSpec."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from os import SEEK_END
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
import obstore
from numpy.typing import NDArray
from obstore.store import S3Store

from model.errors import InputError
from service.imaging import animation, ffmpeg
from service.imaging.object_store import Store, open_writer
from service.imaging.video_spec import KINDS_BY_SUFFIX, NEED_PYAV, VideoKind, VideoSpec

Progress = Callable[[int], object]
"""Called with the number of groups added since the last call. An exception ends the work and leaves no file."""

VIDEO_TYPES: dict[VideoKind, str] = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "apng": "image/apng",
    "webp": "image/webp",
    "ffv1": "video/matroska",
}

_COPIED_BYTES = 8 << 20


class GroupWriter(Protocol):
    """Encodes the frames of a group into a file."""

    def write(self, image: NDArray[np.uint8]) -> None:
        """Encode the next frame [H, W, 3]."""

    def close(self) -> None:
        """Finish the file, which stays open."""


def has_pyav() -> bool:
    """Whether this installation can encode the kinds of NEED_PYAV."""
    return find_spec("av") is not None


def require_pyav(kind: VideoKind, field: str = "output") -> None:
    """Raise InputError if a video of this kind cannot be encoded here."""
    if kind in NEED_PYAV and not has_pyav():
        raise InputError(field, f"{kind} needs PyAV: pip install 'creps-serve[video]'")


def find_kind(field: str, path: Path) -> VideoKind:
    """The kind of a file by its suffix. Raises InputError if there is none, or it cannot be encoded here."""
    if (kind := KINDS_BY_SUFFIX.get(path.suffix.lower().removeprefix("."))) is None:
        suffixes = ", ".join(f".{suffix}" for suffix in KINDS_BY_SUFFIX)
        raise InputError(field, f"must end in one of {suffixes}, not {path.name}")
    require_pyav(kind, field)
    return kind


def open_group(video: VideoSpec, file: IO[bytes]) -> GroupWriter:
    """A writer of a group of frames."""
    return open_encoder(video.kind, file, video.timeline.fps, *video.size)


def open_encoder(kind: VideoKind, file: IO[bytes], fps: float, width: int, height: int) -> GroupWriter:
    """A writer of a group of frames of this size."""
    if kind == "apng" or kind == "webp":
        return animation.GroupWriter(kind, file)
    return ffmpeg.GroupWriter(kind, file, fps, width, height)


def write_frames(video: VideoSpec, writer: GroupWriter, cells: Sequence[NDArray[np.uint8]]) -> None:
    """Encode frames from their cells, frame by frame."""
    for start in range(0, len(cells), video.cells):
        writer.write(video.compose(cells[start : start + video.cells]))


def upload(store: Store, path: str, file: IO[bytes], media_type: str | None = None) -> None:
    """Write a file as an object, atomically. Raises STORE_ERRORS."""
    # Buckets tell their objects' types themselves, to players that are redirected there. Folders keep none.
    attributes = {"Content-Type": media_type} if media_type and isinstance(store, S3Store) else None
    size = file.seek(0, SEEK_END)
    file.seek(0)
    with open_writer(store, path, size, attributes) as writer:
        while content := file.read(_COPIED_BYTES):
            writer.write(content)


def join_groups(video: VideoSpec, store: Store, folder: str, progress: Progress) -> None:
    """Write ``folder/video.name`` from the groups, atomically. Raises STORE_ERRORS.

    Memory holds one group, and a temporary file the video.
    """
    frames = video.timeline.frames
    with tempfile.TemporaryFile() as file:
        join(video.kind, _groups(video, store, folder, progress), cast(IO[bytes], file), video.timeline.fps, frames)
        upload(store, f"{folder}/{video.name}", cast(IO[bytes], file), VIDEO_TYPES[video.kind])


def join(kind: VideoKind, groups: Iterable[bytes], file: IO[bytes], fps: float, frames: int) -> None:
    """Write groups, of so many frames in all, as one file. Only one group is held at a time."""
    if kind == "apng" or kind == "webp":
        animation.join(kind, groups, file, fps, frames)
    else:
        ffmpeg.join(kind, groups, file, fps, frames)


def _groups(video: VideoSpec, store: Store, folder: str, progress: Progress) -> Iterator[bytes]:
    for group in range(video.tiles):
        yield bytes(obstore.get(store, f"{folder}/{video.tile_name(group)}").bytes())
        progress(1)
