"""JPEG XL images, which Pillow does not read, by imagecodecs."""

from typing import IO

import numpy as np
from PIL import Image

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def is_jpegxl(start: bytes) -> bool:
    """Whether a file that starts with these 12 bytes is a JPEG XL image."""
    return start.startswith((_CODESTREAM, _CONTAINER))


def read_jpegxl(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Decode the first frame, upright and with 8 bits.

    Raises:
        Image.DecompressionBombError: the image has more than ``max_pixels``.
        Exception: the file cannot be decoded.
    """
    from imagecodecs import jpegxl_decode  # missing on machines that only train

    content = file.read()
    height, width = _size(_find_codestream(content))
    if height * width > max_pixels:
        raise Image.DecompressionBombError
    pixels = jpegxl_decode(content, index=0, numthreads=1)
    if pixels.dtype == np.uint16:
        pixels = (pixels.astype(np.uint32) * 255 + 32767) // 65535
    elif pixels.dtype != np.uint8:
        pixels = np.clip(pixels * 255.0 + 0.5, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def _find_codestream(content: bytes) -> bytes:
    """The start of the codestream, which may be in a box (ISO/IEC 18181-2)."""
    if content.startswith(_CODESTREAM):
        return content[:16]
    start = 0
    while start + 8 <= len(content):
        size, kind, header = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(content[start + 8 : start + 16]), 16
        if kind in (b"jxlc", b"jxlp"):
            header += 4 if kind == b"jxlp" else 0  # the number of the part
            return content[start + header : start + header + 16]
        if size < header:
            break
        start += size
    raise ValueError("it holds no JPEG XL codestream")


def _size(codestream: bytes) -> tuple[int, int]:
    """Height and width in the header of a codestream (ISO/IEC 18181-1, SizeHeader)."""
    bits = int.from_bytes(codestream[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side()
    ratio = take(3)
    if not ratio:
        return height, side()
    a, b = _RATIOS[ratio - 1]
    return height, height * a // b
