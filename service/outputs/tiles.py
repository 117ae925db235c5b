"""A tile's pixels → what is kept of it."""

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from service.encode import encode
from service.outputs.order import Order

_DEFLATE_LEVEL = 3
"""On a smooth 512×512 tile 2.8 ms and 69 kB; level 1 takes 2.2 ms for 75 kB, level 6 7.5 ms for 61 kB."""


def encode_tile(order: Order, picture: NDArray[np.uint8]) -> bytes:
    """The bytes that are kept of a tile [h, w, 3]. Equal pixels give equal bytes.

    They are a file of the order's format; for a TIFF they are what stands between its other tiles: padded to full size,
    lossless ones as deflated differences of horizontal neighbours (TIFF 6.0, section 14, predictor 2).
    """
    if order.kind != "tiff":
        return encode(picture, order.spec.encoding)
    picture = _pad(picture, order.tile)
    if order.spec.encoding.format != "png":
        return encode(picture, order.spec.encoding)
    differences = imagecodecs.delta_encode(picture, axis=1)
    return bytes(imagecodecs.deflate_encode(differences.tobytes(), level=_DEFLATE_LEVEL))


def _pad(picture: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """A tile at a picture's edge as a full one [tile, tile, 3]: its last row and column go on.

    A constant edge would be a step, which JPEG's blocks would carry into the picture.
    """
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, tile - height), (0, tile - width), (0, 0)), mode="edge")
