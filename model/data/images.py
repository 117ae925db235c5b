"""Untrusted images of any format, and their pixels as 8-bit RGB."""

import io
from functools import lru_cache
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from model.data.jpegxl import is_jpegxl, read_jpegxl
from model.util.text import error_text

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jp2", ".j2k", ".jxl", ".psd", ".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Suffixes of image files, in lower case."""

Image.init()  # at once: Pillow's lazy loading is not thread-safe, and formats may be missed

FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM", "PSD")
    if name in Image.OPEN  # AVIF came with Pillow 11.3
)
"""Formats by Pillow's names. No others are tried: EPS starts another program, and TGA accepts any bytes."""

MAX_IMAGE_PIXELS = 1 << 27
"""Images with more pixels in their header are refused, since a small file may decode to a huge image. Pillow's own
limit (twice its ``MAX_IMAGE_PIXELS``) is 1.33 times as high."""


def open_image(file: IO[bytes]) -> Image.Image:
    """Open an image and read its header. Animations are at their first frame.

    Raises:
        Exception: the file is no image or too large. Decoders raise errors of any type; see :func:`reason`.
    """
    start = file.read(12)
    file.seek(0)
    if is_jpegxl(start):
        return read_jpegxl(file, MAX_IMAGE_PIXELS)
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    _scale_transparent_colour(image)
    return image


def _scale_transparent_colour(image: ImageFile) -> None:
    """Pillow scales a PNG's samples to 8 bits, but not the colour that is transparent (tRNS)."""
    colour = image.info.get("transparency")
    samples = image.tile[0].args if image.format == "PNG" and image.tile else None
    if colour is not None and samples in ("L;2", "L;4"):
        image.info["transparency"] = colour * (85 if samples == "L;2" else 17)
    elif colour is not None and samples == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit sRGB: to "RGBA" if the image has transparency, else to "RGB".

    An embedded colour profile is applied. One that is damaged or belongs to other samples is ignored, as in browsers.

    Raises:
        ValueError: the image has 32-bit samples, whose range is unknown.
    """
    image = _to_8_bits(image)
    profile = image.info.get("icc_profile")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode == "P" and alpha is not None:
        image = image.convert("RGBA")  # Pillow warns about converting directly
    mode = "CMYK" if image.mode == "CMYK" else "L" if image.mode in ("1", "L", "LA") else "RGB"
    image = image.convert(mode)
    transform = _profile_to_srgb(profile, mode) if profile else None
    srgb = image.convert("RGB") if transform is None else transform.apply(image)
    if alpha is not None:
        srgb.putalpha(alpha)
    return srgb


@lru_cache(16)  # the images of a data set tend to share one
def _profile_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey: white stays white."""
    # Pillow reads 16-bit PGM into 32 bits, but TIFF has 32-bit samples of its own.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format != "TIFF"):
        samples = np.asarray(image).astype(np.uint32)  # Pillow's own conversion clips at 255
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
        white = 4095 if tags.get(BITSPERSAMPLE) == (12,) else 65535  # Pillow does not scale 12 bits
        grey = Image.fromarray(((samples * 255 + white // 2) // white).astype(np.uint8))
        if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero, which Pillow regards only with 8 bits
            grey = ImageOps.invert(grey)
        if (transparent := image.info.get("transparency")) is not None:
            grey.putalpha(Image.fromarray(np.where(samples == transparent, 0, 255).astype(np.uint8)))
        grey.info["icc_profile"] = image.info.get("icc_profile")
        return grey
    if image.mode in ("I", "F"):
        raise ValueError("it has 32-bit samples, whose range is unknown")
    return image


def reason(error: Exception) -> str:
    """Why an image cannot be used, as part of an error message."""
    if isinstance(error, UnidentifiedImageError):
        return "it is in no known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_IMAGE_PIXELS} pixels"
    return error_text(error)
