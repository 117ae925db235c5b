"""Rotation, quality and encoding of a scaled region."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.spec import DEFAULT_QUALITY, Encoding
from service.iiif.request import ResolvedRequest
from service.iiif.turn import BACKGROUND, paint_background
from service.imaging.encode import encode


def transform(pixels: NDArray[np.uint8], request: ResolvedRequest, *, turned: bool = False) -> bytes:
    """Rotate, convert and encode the pixels [h, w, 3] of the requested region at the requested size.

    If they are ``turned``, their background alone is left to paint.
    """
    degrees = request.rotation.degrees
    if request.rotation.mirrored and not turned:
        pixels = pixels[:, ::-1]
    if turned:
        pixels = paint_background(pixels, request.sides, degrees)
    elif request.rotation.is_oblique:
        pixels = _rotate(pixels, degrees)
    else:
        pixels = np.rot90(pixels, -int(degrees) // 90)  # rot90 turns counterclockwise
    if request.quality not in ("gray", "bitonal"):
        return encode(pixels, Encoding(request.format))
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    if request.quality == "bitonal":
        image = image.convert("1")  # dithered
        if request.format != "png":
            image = image.convert("L")  # the other formats have no 1-bit pixels
    file = BytesIO()
    # The fast settings of service.imaging.encode.
    options = {"compress_level": 1} if request.format == "png" else {"quality": DEFAULT_QUALITY, "method": 0}
    image.save(file, request.format, **options)
    return file.getvalue()


def _rotate(pixels: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """Stored pixels, turned clockwise on white."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    fill = (BACKGROUND,) * 3
    return np.asarray(image.rotate(-degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=fill))
