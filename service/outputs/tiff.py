"""A tiled, pyramidal BigTIFF, written as a stream: the encoded tiles strung together, none of them decoded.

tifffile lays the file out, over placeholders of the tiles' lengths; what it writes beside them, headers and
directories, is kept. Then the file is written from its first byte to its last, so that any store can take it.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile

from service.encode import FULL_CHROMA_QUALITY
from service.outputs.order import Order

_HORIZONTAL_PREDICTOR = 2


@dataclass(frozen=True)
class TiffLayout:
    """Where everything of a file stands.

    Attributes:
        parts: the file in its order: bytes of tifffile's, or a tile's index.
        size: of the file in bytes.
    """

    parts: Sequence[bytes | int]
    size: int


def lay_out(order: Order, length: Callable[[int], int]) -> TiffLayout:
    """Places tiles, whose lengths in bytes are known, in a file: the picture itself first, then smaller and smaller."""
    pyramid = order.pyramid
    file = _Recorder()
    with tifffile.TiffWriter(file, bigtiff=True) as writer:  # type: ignore[arg-type, unused-ignore]
        for step, level in enumerate(reversed(range(len(pyramid.levels)))):
            size = pyramid.levels[level]
            writer.write(
                (_Placeholder(length(index), index) for index in pyramid.scan(level)),
                shape=(size.height, size.width, 3),
                dtype=np.uint8,
                tile=(order.tile, order.tile),
                subifds=(len(pyramid.levels) - 1 or None) if step == 0 else None,
                subfiletype=0 if step == 0 else 1,  # 1: a reduced version of another picture of this file
                metadata=None,
                software="CREPS Serve",
                **_codec(order),
            )
    return file.layout()


def write_tiff(layout: TiffLayout, tiles: Iterator[bytes], write: Callable[[bytes], object]) -> None:
    """Writes the file from its first byte to its last.

    Args:
        tiles: the tiles of ``layout.parts``, in their order.
    """
    for part in layout.parts:
        write(part if isinstance(part, bytes) else next(tiles))


def _codec(order: Order) -> dict[str, Any]:
    """How the tiles are encoded already, in the words of tifffile."""
    encoding = order.spec.encoding
    if encoding.format == "jpeg":
        subsampling = (1, 1) if encoding.quality >= FULL_CHROMA_QUALITY else (2, 2)
        return {"photometric": "ycbcr", "compression": "jpeg", "subsampling": subsampling}
    return {"photometric": "rgb", "compression": "adobe_deflate", "predictor": _HORIZONTAL_PREDICTOR}


class _Placeholder(bytes):
    """As many zeros as a tile has bytes."""

    tile: int

    def __new__(cls, length: int, tile: int) -> "_Placeholder":
        placeholder = super().__new__(cls, length)
        placeholder.tile = tile
        return placeholder


class _Recorder(io.RawIOBase):
    """A file that keeps what is written, but of placeholders only where they lie."""

    def __init__(self) -> None:
        self._position = 0
        self._pieces: list[tuple[int, bytes]] = []
        self._tiles: list[tuple[int, int, int]] = []

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
        if isinstance(data, _Placeholder):
            self._tiles.append((self._position, len(data), data.tile))
        else:
            self._pieces.append((self._position, bytes(data)))
        self._position += len(data)
        return len(data)

    def layout(self) -> TiffLayout:
        """The file. A piece written later goes before one that it overlaps."""
        ends = [start + length for start, length, _ in self._tiles] + [start + len(p) for start, p in self._pieces]
        size = max(ends)
        parts: list[bytes | int] = []
        gap_start = 0
        for start, length, index in [*sorted(self._tiles), (size, 0, -1)]:
            if gap_start < start:
                parts.append(self._read(gap_start, start))
            if length:
                parts.append(index)
            gap_start = start + length
        return TiffLayout(parts, size)

    def _read(self, start: int, stop: int) -> bytes:
        """What was written between two tiles; zeros where it was nothing."""
        content = bytearray(stop - start)
        for begin, piece in self._pieces:
            if start <= begin < stop:
                content[begin - start : begin - start + len(piece)] = piece
        return bytes(content)
