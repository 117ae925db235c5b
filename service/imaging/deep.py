"""Files with more than 8 bits a number, made from the network's colours as float32."""

import io
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from model.spec import Encoding

Place = tuple[int, int]
"""x and y of an image's first pixel in the whole image."""

AVIF_SPEED = 8
"""Of 10: a 4096² image takes minutes at the default of 6."""


def encode_deep(colours: NDArray[np.float32], encoding: Encoding, place: Place, description: str) -> bytes:
    """Encode colours [H, W, 3], about −1 … 1. A TIFF holds the description, if there is one."""
    if encoding.format == "npy":
        file = io.BytesIO()
        np.save(file, colours)
        return file.getvalue()
    values: NDArray[Any] = to_unit(colours) if encoding.bits == 32 else to_levels(colours, encoding.bits, place)
    match encoding.format:
        case "png":
            return bytes(imagecodecs.png_encode(values, level=1, strategy=3, filter=128))
        case "avif":
            return bytes(
                imagecodecs.avif_encode(
                    values, level=encoding.quality, speed=AVIF_SPEED, bitspersample=encoding.bits, numthreads=1
                )
            )
        case "jxl":
            return encode_jpegxl(values, encoding.quality)
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        values,
        photometric="rgb",
        compression="zlib",
        predictor=True,
        description=description or None,
        metadata=None,
        software=False,
    )
    return file.getvalue()


def encode_jpegxl(values: NDArray[Any], quality: int) -> bytes:
    """A JPEG XL file, lossless at quality 100."""
    if quality == 100:
        return bytes(imagecodecs.jpegxl_encode(values, lossless=True, effort=3, numthreads=1))
    return bytes(imagecodecs.jpegxl_encode(values, distance=_distance(quality), effort=3, numthreads=1))


def _distance(quality: int) -> float:
    """Butteraugli distance of a JPEG's quality, as libjxl's JxlEncoderDistanceFromQuality."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return min(53 / 3000 * quality**2 - 23 / 20 * quality + 25, 25.0)


def to_unit(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours −1 … 1 → 0 … 1. NaN becomes 0."""
    values: NDArray[np.float32] = np.nan_to_num(colours * np.float32(0.5) + np.float32(0.5), nan=0.0).clip(0, 1)
    return values


def to_levels(colours: NDArray[np.float32], bits: int, place: Place) -> NDArray[np.uint16]:
    """Colours −1 … 1 → 0 … 2^bits − 1, dithered by the position in the whole image, so that crops agree."""
    largest = 2**bits - 1
    values = to_unit(colours).astype(np.float64) * largest + dither(colours.shape[:2], place)
    levels: NDArray[np.uint16] = np.minimum(values, largest).astype(np.uint16)
    return levels


def dither(shape: tuple[int, ...], place: Place) -> NDArray[np.float64]:
    """Noise [H, W, 3] from 0 to below 1, a hash of position and channel (Wellons 2018, "Prospecting for hash
    functions")."""
    height, width = shape
    with np.errstate(over="ignore"):
        x = np.arange(place[0], place[0] + width, dtype=np.uint32)[None, :, None] * np.uint32(0x9E3779B1)
        y = np.arange(place[1], place[1] + height, dtype=np.uint32)[:, None, None] * np.uint32(0x85EBCA77)
        n = x ^ y ^ (np.arange(3, dtype=np.uint32) * np.uint32(0xC2B2AE3D))
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            n = (n ^ (n >> np.uint32(shift))) * np.uint32(factor)
        n ^= n >> np.uint32(16)
    noise: NDArray[np.float64] = (n >> np.uint32(8)) / 2.0**24
    return noise
