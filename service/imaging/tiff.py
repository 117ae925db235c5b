"""A tiled, pyramidal BigTIFF, written as a stream: the encoded tiles strung together, none of them decoded.

tifffile lays the file out, over placeholders of the tiles' lengths; what it writes beside them, headers and
directories, is kept. Then the file is written from its first byte to its last, so that any store can take it.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from service.encode import FULL_CHROMA_QUALITY
from service.outputs.order import Order

_HORIZONTAL_PREDICTOR = 2


@dataclass(frozen=True)
class TiffLayout:
    """Where everything of a file stands.

    Attributes:
        parts: the file in its order: bytes of tifffile's, or a number of tiles, the next ones of :func:`scan`.
        size: of the file in bytes.
    """

    parts: Sequence[bytes | int]
    size: int


def scan(order: Order) -> Iterator[int]:
    """The indices of all tiles as they stand in the file: the picture itself first, then smaller and smaller."""
    for level in reversed(range(len(order.pyramid.levels))):
        yield from order.pyramid.scan(level)


def lay_out(order: Order, lengths: NDArray[np.int64]) -> TiffLayout:
    """Places tiles, whose lengths in bytes [tiles] are known, in a file.

    The sizes are pages of the file, which all readers of pyramids know; SubIFDs are unknown to some.
    """
    pyramid = order.pyramid
    file = _Recorder()
    with tifffile.TiffWriter(file, bigtiff=True) as writer:  # type: ignore[arg-type, unused-ignore]
        for step, level in enumerate(reversed(range(len(pyramid.levels)))):
            size = pyramid.levels[level]
            writer.write(
                (_Placeholder(lengths[index]) for index in pyramid.scan(level)),
                shape=(size.height, size.width, 3),
                dtype=np.uint8,
                tile=(order.tile, order.tile),
                subfiletype=0 if step == 0 else 1,  # 1: a reduced version of another picture of this file
                metadata=None,
                software="CREPS Serve",
                **_codec(order),
            )
    return file.layout()


def write_tiff(layout: TiffLayout, tiles: Iterator[bytes], write: Callable[[bytes], object]) -> None:
    """Writes the file from its first byte to its last.

    Args:
        tiles: in the order of :func:`scan`.
    """
    for part in layout.parts:
        for content in (part,) if isinstance(part, bytes) else itertools.islice(tiles, part):
            write(content)


def _codec(order: Order) -> dict[str, Any]:
    """How the tiles are encoded already, in the words of tifffile."""
    encoding = order.spec.encoding
    if encoding.format == "jpeg":
        subsampling = (1, 1) if encoding.quality >= FULL_CHROMA_QUALITY else (2, 2)
        return {"photometric": "ycbcr", "compression": "jpeg", "subsampling": subsampling}
    return {"photometric": "rgb", "compression": "adobe_deflate", "predictor": _HORIZONTAL_PREDICTOR}


class _Placeholder(bytes):
    """As many zeros as a tile has bytes."""


@dataclass
class _Run:
    """Tiles that stand side by side, from ``start`` to before ``stop``."""

    start: int
    stop: int
    tiles: int


class _Recorder(io.RawIOBase):
    """A file that keeps what is written, but of placeholders only where they lie."""

    def __init__(self) -> None:
        self._position = 0
        self._pieces: list[tuple[int, bytes]] = []
        self._runs: list[_Run] = []

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

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
        """The file. A piece written later goes before one that it overlaps."""
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
        """What was written between two tiles; zeros where it was nothing."""
        content = bytearray(stop - start)
        for begin, piece in self._pieces:
            if start <= begin < stop:
                content[begin - start : begin - start + len(piece)] = piece
        return bytes(content)
