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

PIECE_BYTES = 1 << 22
"""About as many bytes of pixels are in one piece: megabytes cost no compression, and keep several threads busy."""

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
    """Writes a picture that comes from top to bottom.

    Args:
        bands: rows [h, width, 3], ``height`` of them in all. One is held at a time.
        write: takes the file's next bytes.
        pool: threads that compress.
    """
    write(_SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, _DEPTH, _RGB, 0, 0, 0)))
    above = np.zeros((1, width * 3), np.uint8)
    checksum, header = 1, _ZLIB_HEADER
    for band in bands:
        rows = band.reshape(len(band), -1)
        step = max(1, PIECE_BYTES // rows.shape[1])
        pieces = [
            (rows[top : top + step], above if top == 0 else rows[top - 1 : top]) for top in range(0, len(rows), step)
        ]
        for compressed, adler, length in pool.map(_compress, pieces):
            write(_chunk(b"IDAT", header + compressed))
            checksum, header = _combine(checksum, adler, length), b""
        above = rows[-1:].copy()
    write(_chunk(b"IDAT", _LAST_BLOCK + struct.pack(">I", checksum)) + _chunk(b"IEND", b""))


def _compress(piece: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> tuple[bytes, int, int]:
    """Rows [h, 3w] and the one above them → deflated scanlines, their checksum and their length."""
    rows, above = piece
    lines = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP
    np.subtract(rows[:1], above, out=lines[:1, 1:])
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
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
