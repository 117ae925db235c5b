"""Opening pictures of any format without trusting them, and their pixels as 8-bit RGB."""

from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Endings, in lower case, of the files that are taken for pictures."""

Image.init()  # all at once: Pillow's own lazy loading makes a thread that comes second miss a format

FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM")
    if name in Image.OPEN  # AVIF came with Pillow 11.3
)
"""Formats by Pillow's names. No others are tried: EPS starts another program, and TGA takes any bytes for a picture."""

MAX_PICTURE_PIXELS = 1 << 27
"""Larger pictures are refused by their header: a small file may unpack to a huge one. Pillow refuses from 1.33 times
as many on (twice its ``MAX_IMAGE_PIXELS``)."""


def open_picture(file: IO[bytes]) -> Image.Image:
    """The picture, of which no more than the header has been read. Animated ones stand at their first frame.

    Raises:
        Exception: the file is no picture or too large. Decoders raise whatever comes to them; see :func:`reason`.
    """
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PICTURE_PIXELS:
        raise Image.DecompressionBombError
    return image


def to_8_bits(image: Image.Image) -> Image.Image:
    """The picture with samples of 8 bits; 16-bit grey is scaled, so that white stays white and mid-grey mid-grey.

    Raises:
        ValueError: 32-bit samples, of which no header says what is white.
    """
    # Pillow reads 16-bit PGM into 32 bits, but TIFF has 32-bit samples of its own.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format != "TIFF"):
        samples = np.asarray(image).astype(np.uint32)  # Pillow's own conversion clips at 255
        return Image.fromarray(((samples * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it has 32-bit samples, whose range is not known")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as 8-bit RGB without its transparency."""
    image = to_8_bits(image)
    if image.mode == "P" and image.has_transparency_data:
        image = image.convert("RGBA")  # Pillow warns of the direct way
    return image.convert("RGB")


def reason(error: Exception) -> str:
    """Why a picture cannot be used, as the end of a sentence of one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is in no known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PICTURE_PIXELS} pixels"
    return printable(" ".join(str(error).split()) or type(error).__name__)


def printable(text: str) -> str:
    """A name or message from a file as it may stand in a line: short, and unable to steer a terminal."""
    text = text if len(text) <= 200 else f"{text[:200]}…"
    return text if text.isprintable() else ascii(text)
