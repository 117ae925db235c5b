"""Rotation, quality and encoding of a scaled region."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.spec import DEFAULT_QUALITY, Encoding
from service.iiif.request import ResolvedRequest
from service.imaging.encode import encode


def transform(pixels: NDArray[np.uint8], request: ResolvedRequest) -> bytes:
    """Rotate, convert and encode the pixels [h, w, 3] of the requested region at the requested size."""
    if request.rotation.mirrored:
        pixels = pixels[:, ::-1]
    pixels = np.rot90(pixels, -int(request.rotation.degrees) // 90)  # rot90 turns counterclockwise
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
