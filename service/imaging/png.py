"""One PNG of any size, written as a stream. Its rows are compressed in pieces, by several threads at once.

A PNG's pixels are one zlib stream (PNG 3rd edition, section 10). Pieces of it can be made apart: each is deflated by
itself and ends on a byte's boundary, as a flushed compressor does, and the checksums of the pieces are combined.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from service.outputs.ahead import ahead

PIECE_BYTES = 1 << 20
"""About as many bytes of pixels are in one piece: a megabyte costs no compression, and keeps several threads busy."""

_PIECES_AHEAD = 16
"""Pieces that are compressed, or wait for it, while one is written: memory of a few times as many megabytes."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB, _DEPTH = 2, 8
_UP = 2
"""Filter type: the difference to the pixel above, which numpy takes at memory speed."""

_ZLIB_HEADER = b"\x78\x01"  # deflate with a window of 32 KiB, fastest; RFC 1950
_LAST_BLOCK = b"\x03\x00"  # an empty final block; RFC 1951
_ADLER_BASE = 65_521


def write_png(
    width: int,
    height: int,
    bands: Iterator[NDArray[np.uint8]],
    write: Callable[[bytes], object],
    pool: Executor,
) -> None:
    """Writes a picture that comes from top to bottom. Equal pixels give equal bytes, whatever the bands' heights.

    Args:
        bands: rows [h, width, 3], ``height`` of them in all. One is held at a time.
        write: takes the file's next bytes.
        pool: threads that compress.
    """
    write(_SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, _DEPTH, _RGB, 0, 0, 0)))
    checksum, header = 1, _ZLIB_HEADER
    for compressed, adler, length in ahead(pool, _compress, _pieces(width, bands), _PIECES_AHEAD):
        write(_chunk(b"IDAT", header + compressed))
        checksum, header = _combine(checksum, adler, length), b""
    write(_chunk(b"IDAT", _LAST_BLOCK + struct.pack(">I", checksum)) + _chunk(b"IEND", b""))


def _pieces(width: int, bands: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The picture in pieces of equal height [1 + h, 3 · width], each in memory of its own, the row above it first."""
    shape = (1 + max(1, PIECE_BYTES // (3 * width)), 3 * width)
    piece, filled = np.zeros(shape, np.uint8), 1
    for band in bands:
        rows = band.reshape(len(band), -1)
        while len(rows):
            if filled == len(piece):
                yield piece
                above, piece, filled = piece[-1], np.empty(shape, np.uint8), 1
                piece[0] = above
            taken = min(len(rows), len(piece) - filled)
            piece[filled : filled + taken] = rows[:taken]
            rows, filled = rows[taken:], filled + taken
    yield piece[:filled]


def _compress(piece: NDArray[np.uint8]) -> tuple[bytes, int, int]:
    """A piece [1 + h, 3 · width] → its deflated scanlines, their checksum and their length."""
    lines = np.empty((piece.shape[0] - 1, piece.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP
    np.subtract(piece[1:], piece[:-1], out=lines[:, 1:])
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    data = lines.data.cast("B")
    compressed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed, zlib.adler32(data), len(data)


def _combine(first: int, second: int, length: int) -> int:
    """Adler-32 of two texts in a row, of which the second has ``length`` bytes. From its definition in RFC 1950.

    s1 = 1 + Σ d_i and s2 = Σ s1 after each byte, both modulo 65521: in the second text every s1 is greater by the
    first's s1 − 1.
    """
    before = (first & 0xFFFF) - 1
    low = before + (second & 0xFFFF)
    high = (first >> 16) + (second >> 16) + length * before
    return high % _ADLER_BASE << 16 | low % _ADLER_BASE


def _chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum (PNG 3rd edition, section 5.3)."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
