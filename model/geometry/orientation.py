"""Transforms that only scale, move, mirror and turn by quarters: a region, and an order of rows and columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.geometry.maps import combined_matrix, invert
from model.geometry.transforms import Transform

Region = tuple[float, float, float, float]
Box = tuple[int, int, int, int]
Dtype = TypeVar("Dtype", bound=np.generic)


@dataclass(frozen=True)
class Orientation:
    """How an upright image becomes the image: mirrored along x and y, then, if ``transposed``, x and y exchanged."""

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    def apply(self, upright: NDArray[Dtype]) -> NDArray[Dtype]:
        """The image [h, w, 3] of an upright one, as a view."""
        image = upright[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]
        return image.swapaxes(0, 1) if self.transposed else image

    def upright_size(self, width: int, height: int) -> tuple[int, int]:
        return (height, width) if self.transposed else (width, height)

    def upright_crop(self, crop: Box, width: int, height: int) -> Box:
        """The pixels of the upright image that are those of a crop of the image of width × height pixels."""
        x, y, w, h = crop
        if self.transposed:
            x, y, w, h = y, x, h, w
        width, height = self.upright_size(width, height)
        return (width - x - w if self.mirror_x else x, height - y - h if self.mirror_y else y, w, h)


UPRIGHT = Orientation()


def upright_region(region: Region, transforms: Sequence[Transform]) -> tuple[Region, Orientation] | None:
    """The region of the picture that transforms show in a region of the plane, and in which orientation.

    None if they do more than scale, move, mirror and turn by quarters.
    """
    matrix = combined_matrix(transforms)
    if matrix is None:
        return None
    inverse = invert(matrix)
    (a, b, c), (d, e, f), bottom = inverse.tolist()
    if bottom != [0.0, 0.0, 1.0]:
        return None
    x0, y0, x1, y1 = (value - 0.5 for value in region)
    if (b, d) == (0.0, 0.0):
        (left, right), (top, bottom) = (a * x0 + c, a * x1 + c), (e * y0 + f, e * y1 + f)
    elif (a, e) == (0.0, 0.0):
        (left, right), (top, bottom) = (b * y0 + c, b * y1 + c), (d * x0 + f, d * x1 + f)
    else:
        return None
    orientation = Orientation(transposed=b != 0.0, mirror_x=left > right, mirror_y=top > bottom)
    left, right, top, bottom = *sorted((left, right)), *sorted((top, bottom))
    return (left + 0.5, top + 0.5, right + 0.5, bottom + 0.5), orientation
