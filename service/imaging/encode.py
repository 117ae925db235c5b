"""Encoding of pixels. Deterministic; the encoders release the GIL."""

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.spec import FORMATS, IMAGE_FORMATS, Encoding, Format, ImageFormat
from service.imaging.deep import AVIF_SPEED, encode_jpegxl

SUFFIXES: dict[ImageFormat, str] = {name: "jpg" if name == "jpeg" else name for name in IMAGE_FORMATS}
"""File suffix of each format, without the dot."""

MEDIA_TYPES: dict[ImageFormat, str] = {
    name: "application/x-npy" if name == "npy" else f"image/{name}" for name in IMAGE_FORMATS
}

FORMATS_BY_SUFFIX: dict[str, Format] = {SUFFIXES[name]: name for name in FORMATS}

IMAGE_FORMATS_BY_SUFFIX: dict[str, ImageFormat] = {suffix: name for name, suffix in SUFFIXES.items()}

FULL_CHROMA_QUALITY = 90
"""JPEG quality from which chroma is not subsampled (4:4:4); below it is halved each way (4:2:0)."""

# Level 1, run-length strategy, Paeth filter: 8 ms and 419 kB for a smooth 512×512 image. zlib's level 6 takes 37 ms for
# 440 kB: such images have no repetitions for it to find.
_PNG_LEVEL, _PNG_RLE, _PNG_PAETH = 1, 3, 128

_WEBP_METHOD = 0
"""10 ms and 53 kB for the same image; libwebp's default of 4 takes 30 ms for 51 kB."""


def encode(image: NDArray[np.uint8], encoding: Encoding) -> bytes:
    """Encode an RGB image [H, W, 3] of 8-bit levels. Raises InputError if a side is longer than the format allows.

    Files that are deep are made by :func:`service.imaging.deep.encode_deep`.
    """
    encoding.check_size(width=image.shape[1], height=image.shape[0])
    image = np.ascontiguousarray(image)
    match encoding.format:
        case "png":
            content = imagecodecs.png_encode(image, level=_PNG_LEVEL, strategy=_PNG_RLE, filter=_PNG_PAETH)
        case "jpeg":
            subsampling = "444" if encoding.quality >= FULL_CHROMA_QUALITY else "420"
            content = imagecodecs.jpeg8_encode(image, level=encoding.quality, subsampling=subsampling)
        case "webp":
            content = imagecodecs.webp_encode(image, level=encoding.quality, lossless=False, method=_WEBP_METHOD)
        case "avif":
            content = imagecodecs.avif_encode(image, level=encoding.quality, speed=AVIF_SPEED, numthreads=1)
        case "jxl":
            content = encode_jpegxl(image, encoding.quality)
        case _:
            raise InputError("bits", f"of {encoding.format} must be more than 8")
    return bytes(content)
