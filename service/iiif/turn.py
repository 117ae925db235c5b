"""Rotation by any angle: the size of the turned image, the viewport that shows it, and its background."""

import math

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.geometry.maps import cos_sin
from model.geometry.transforms import Transform
from model.viewport import Viewport
from service.iiif.request import BadSyntaxError, Rotation
from service.imaging.pyramid import Sides

BACKGROUND = 255
"""White, where the turned image leaves corners."""


def turned_sides(sides: Sides, degrees: float) -> Sides:
    """The smallest size that holds an image turned about its centre."""
    (width, height), (cos, sin) = sides, cos_sin(degrees)
    return (
        math.ceil(width * abs(cos) + height * abs(sin) - 1e-6),
        math.ceil(width * abs(sin) + height * abs(cos) - 1e-6),
    )


def turned_viewport(viewport: Viewport, rotation: Rotation) -> Viewport:
    """The viewport of an upright viewport's crop, mirrored and turned. Raises BadSyntaxError if there is none."""
    sides, (x0, y0, x1, y1) = viewport.crop[2:], viewport.crop_region
    width, height = turned_sides(sides, rotation.degrees)
    pixel = np.array([(x1 - x0) / sides[0], (y1 - y0) / sides[1]])
    cos, sin = cos_sin(rotation.degrees)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if rotation.mirrored else 1.0, 1.0])
    matrix = np.diag(pixel) @ turn @ np.diag(1 / pixel)  # of pixels, which may be oblong
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    shift = centre - 0.5 - matrix @ (centre - 0.5)
    (left, top), (right, bottom) = (centre + side * np.array([width, height]) * pixel for side in (-0.5, 0.5))
    try:
        values = tuple(float(value) for value in np.column_stack([matrix, shift]).ravel())
        region = float(left), float(top), float(right), float(bottom)
        return Viewport.resolve(width, height, region, transform=[Transform("matrix", values)], wrap=viewport.wrap)
    except InputError:
        raise BadSyntaxError(
            "rotation", "must be a multiple of 90 degrees for an image that is stretched so far"
        ) from None


def paint_background(pixels: NDArray[np.uint8], sides: Sides, degrees: float) -> NDArray[np.uint8]:
    """The pixels [h, w, 3] of a turned image of ``sides``, white outside of it, with smooth edges."""
    height, width, _ = pixels.shape
    cos, sin = cos_sin(degrees)
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    across, down = np.abs(cos * x + sin * y), np.abs(cos * y - sin * x)  # from the middle of the upright image
    cover = np.clip(np.minimum(sides[0] / 2 - across, sides[1] / 2 - down) + 0.5, 0, 1)[..., None]
    painted: NDArray[np.uint8] = np.round(pixels * cover + BACKGROUND * (1 - cover)).astype(np.uint8)
    return painted
