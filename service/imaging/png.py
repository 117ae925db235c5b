"""A streaming PNG writer that compresses in several threads.

The pixels of a PNG are one zlib stream (PNG 3rd edition, section 10). Its pieces can be compressed independently: each
ends on a byte boundary, as a flushed compressor does.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from service.imaging.prefetch import prefetch

PIECE_BYTES = 1 << 20
"""Approximate size of a piece: large enough not to cost compression, small enough to keep several threads busy."""

_PIECES_AHEAD = 16
"""Pieces compressed ahead of the writer. Memory is a few times as many megabytes."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2
_UP = 2
"""Filter type: the difference to the pixel above, which numpy computes at memory speed."""

_ZLIB_HEADER = b"\x78\x01"  # deflate with a window of 32 KiB, fastest; RFC 1950
_LAST_BLOCK = b"\x03\x00"  # an empty final block; RFC 1951


def write_png(
    width: int,
    height: int,
    bands: Iterator[NDArray[np.uint8 | np.uint16]],
    write: Callable[[bytes], object],
    pool: Executor,
    chunks: bytes = b"",
    bits: int = 8,
) -> None:
    """Write an image that arrives from top to bottom in bands [h, width, 3], of uint16 if its numbers have 16 ``bits``.
    Only one band is held at a time.

    The bytes do not depend on the heights of the bands. The threads of ``pool`` compress them. ``chunks`` are written
    before the pixels.
    """
    write(SIGNATURE + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _RGB, 0, 0, 0)) + chunks)
    checksum, header = 1, _ZLIB_HEADER
    for compressed, lines in prefetch(pool, _compress, _pieces(width * 3 * bits // 8, bands), _PIECES_AHEAD):
        write(png_chunk(b"IDAT", header + compressed))
        checksum, header = zlib.adler32(lines, checksum), b""
    write(png_chunk(b"IDAT", _LAST_BLOCK + struct.pack(">I", checksum)) + png_chunk(b"IEND", b""))


def _pieces(length: int, bands: Iterator[NDArray[np.uint8 | np.uint16]]) -> Iterator[NDArray[np.uint8]]:
    """The bytes of rows in pieces of equal height [1 + h, length], each a new array that begins with the row above."""
    shape = (1 + max(1, PIECE_BYTES // length), length)
    piece, filled = np.zeros(shape, np.uint8), 1
    for band in bands:
        rows = band.astype(band.dtype.newbyteorder(">"), copy=False).reshape(len(band), -1).view(np.uint8)
        while len(rows):
            if filled == len(piece):
                yield piece
                above, piece, filled = piece[-1], np.empty(shape, np.uint8), 1
                piece[0] = above
            taken = min(len(rows), len(piece) - filled)
            piece[filled : filled + taken] = rows[:taken]
            rows, filled = rows[taken:], filled + taken
    yield piece[:filled]


def _compress(piece: NDArray[np.uint8]) -> tuple[bytes, memoryview]:
    """Filter and deflate a piece [1 + h, length]: compressed bytes and scanlines [h, 1 + length]."""
    lines = np.empty((piece.shape[0] - 1, piece.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP
    np.subtract(piece[1:], piece[:-1], out=lines[:, 1:])
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return compressor.compress(lines.data) + compressor.flush(zlib.Z_SYNC_FLUSH), lines.data


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its length and checksum (PNG 3rd edition, section 5.3)."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
