"""A scaled region's pixels → the file that was asked for: mirrored, turned, without colour."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.spec import DEFAULT_QUALITY, Encoding, Format
from service.encode import encode
from service.iiif.request import Resolved, Suffix
from service.iiif.rotation import Rotation

FORMATS: dict[Suffix, Format] = {"jpg": "jpeg", "png": "png", "webp": "webp"}


def transform(pixels: NDArray[np.uint8], request: Resolved) -> bytes:
    """The file of pixels [h, w, 3] that have the request's region and size already."""
    pixels = _turn(pixels, request.rotation)
    picture_format = FORMATS[request.suffix]
    if request.quality not in ("gray", "bitonal"):
        return encode(pixels, Encoding(picture_format))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    if request.quality == "bitonal":
        picture = picture.convert("1")  # dithered
        if picture_format != "png":
            picture = picture.convert("L")  # the other formats have no pixels of one bit
    file = BytesIO()
    # As service.encode has it for colour: bytes that cost little time.
    options = {"compress_level": 1} if picture_format == "png" else {"quality": DEFAULT_QUALITY, "method": 0}
    picture.save(file, picture_format, **options)
    return file.getvalue()


def _turn(pixels: NDArray[np.uint8], rotation: Rotation) -> NDArray[np.uint8]:
    if rotation.mirrored:
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, -int(rotation.degrees) // 90)  # it turns the other way round
