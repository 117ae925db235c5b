"""A streaming writer of tiled, pyramidal BigTIFFs from encoded tiles, none of which is decoded.

tifffile writes a file with placeholders of the tiles' lengths, of which only headers and directories are kept. Then the
file is written from the first byte to the last, as object stores require.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from service.imaging.encode import FULL_CHROMA_QUALITY
from service.imaging.export_spec import ExportSpec

_HORIZONTAL_PREDICTOR, _FLOAT_PREDICTOR = 2, 3

_TYPES = {8: np.uint8, 16: np.uint16, 32: np.float32}


@dataclass(frozen=True)
class TiffLayout:
    """The layout of a file of ``size`` bytes.

    ``parts`` are in file order: bytes written by tifffile, or the number of tiles of :func:`scan` that follow.
    """

    parts: Sequence[bytes | int]
    size: int


def scan(export: ExportSpec) -> Iterator[int]:
    """The indices of all tiles in file order: the image itself first, then ever smaller levels."""
    for level in reversed(range(len(export.pyramid.levels))):
        yield from export.pyramid.scan(level)


def make_layout(export: ExportSpec, lengths: NDArray[np.int64]) -> TiffLayout:
    """The layout of a file with tiles of these lengths in bytes [tiles].

    Levels are pages of the file, which all pyramid readers support; some do not support SubIFDs.
    """
    pyramid = export.pyramid
    file = _Recorder()
    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        for step, level in enumerate(reversed(range(len(pyramid.levels)))):
            size = pyramid.levels[level]
            writer.write(
                (_Placeholder(lengths[index]) for index in pyramid.scan(level)),
                shape=(size.height, size.width, 3),
                dtype=_TYPES[export.spec.encoding.bits],
                tile=(export.tile, export.tile),
                subfiletype=0 if step == 0 else 1,  # 1: a reduced version of another image of this file
                metadata=None,
                software="CREPS Serve",
                **_codec(export),
            )
    return file.layout()


def write_tiff(layout: TiffLayout, tiles: Iterator[bytes], write: Callable[[bytes], object]) -> None:
    """Write the file in order, from the contents of the tiles in the order of :func:`scan`."""
    for part in layout.parts:
        for content in (part,) if isinstance(part, bytes) else itertools.islice(tiles, part):
            write(content)


def _codec(export: ExportSpec) -> dict[str, Any]:
    """The encoding of the tiles as arguments of tifffile."""
    encoding = export.spec.encoding
    if encoding.format == "jpeg":
        subsampling = (1, 1) if encoding.quality >= FULL_CHROMA_QUALITY else (2, 2)
        return {"photometric": "ycbcr", "compression": "jpeg", "subsampling": subsampling}
    predictor = _FLOAT_PREDICTOR if encoding.bits == 32 else _HORIZONTAL_PREDICTOR
    return {"photometric": "rgb", "compression": "adobe_deflate", "predictor": predictor}


class _Placeholder(bytes):
    """Zeros in the length of a tile."""


@dataclass
class _Run:
    """Adjacent tiles, from ``start`` to before ``stop``."""

    start: int
    stop: int
    tiles: int


class _Recorder(io.BytesIO):
    """A file that records positions of placeholders and all other bytes. It is never read."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0
        self._pieces: list[tuple[int, bytes]] = []
        self._runs: list[_Run] = []

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position}[whence] + offset
        return self._position

    def write(self, data: Any) -> int:
        if not isinstance(data, _Placeholder):
            self._pieces.append((self._position, bytes(data)))
        else:
            if not self._runs or self._runs[-1].stop != self._position:
                self._runs.append(_Run(self._position, self._position, 0))
            self._runs[-1].stop += len(data)
            self._runs[-1].tiles += 1
        self._position += len(data)
        return len(data)

    def layout(self) -> TiffLayout:
        """The layout. Later writes overwrite earlier ones."""
        size = max([run.stop for run in self._runs] + [start + len(piece) for start, piece in self._pieces])
        parts: list[bytes | int] = []
        position = 0
        for run in [*self._runs, _Run(size, size, 0)]:
            if position < run.start:
                parts.append(self._read(position, run.start))
            if run.tiles:
                parts.append(run.tiles)
            position = run.stop
        return TiffLayout(parts, size)

    def _read(self, start: int, stop: int) -> bytes:
        """The bytes written between two runs of tiles; zeros in gaps."""
        content = bytearray(stop - start)
        for begin, piece in self._pieces:
            if start <= begin < stop:
                content[begin - start : begin - start + len(piece)] = piece
        return bytes(content)
