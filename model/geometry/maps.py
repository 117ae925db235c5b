"""Pull-backs: from places of the plane to the places of the picture that they show.

All functions take and return arrays x and y relative to the centre of the unit square. NaN is nowhere.
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.geometry.transforms import Transform

Array = NDArray[np.float64]
PullBack = Callable[[Array, Array], tuple[Array, Array]]

_RIM = 0.5
"""Radius of the disc that ``polar`` makes of the picture."""


def pull_back(transforms: Sequence[Transform]) -> PullBack:
    """The pull-back of transforms that are applied in order. Neighbouring matrices become one."""
    steps: list[PullBack] = []
    pending: Array | None = None
    for transform in reversed(transforms):
        matrix = projective_matrix(transform)
        if matrix is not None:
            pending = matrix if pending is None else pending @ matrix
            continue
        if pending is not None:
            steps.append(_projective(pending))
            pending = None
        steps.append(_CURVED[transform.kind](*transform.values))
    if pending is not None:
        steps.append(_projective(pending))

    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        for step in steps:
            x, y = step(x, y)
        return x, y

    return apply


def combined_matrix(transforms: Sequence[Transform]) -> Array | None:
    """The matrix [3, 3] of all transforms together; None if one of them is not a matrix."""
    matrix = np.eye(3)
    for transform in transforms:
        own = projective_matrix(transform)
        if own is None:
            return None
        matrix = own @ matrix
    return matrix


def is_affine(transforms: Sequence[Transform]) -> bool:
    """Whether the transforms together have the same Jacobian everywhere."""
    matrix = combined_matrix(transforms)
    return matrix is not None and (matrix[2] == (0.0, 0.0, 1.0)).all().item()


def projective_matrix(transform: Transform) -> Array | None:
    """The matrix [3, 3] that moves the picture; None if the transform is not a matrix."""
    match transform.kind, transform.values:
        case "rotate", (degrees,):
            cos, sin = cos_sin(degrees)
            return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])  # clockwise, as y is downwards
        case "translate", (x, y):
            return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
        case "scale", (x, y):
            return np.array([[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]])
        case "shear", (x, y):
            return np.array([[1.0, x, 0.0], [y, 1.0, 0.0], [0.0, 0.0, 1.0]])
        case "matrix", values:
            return np.array([*values, 0.0, 0.0, 1.0]).reshape(3, 3)
        case "perspective", values:
            return np.array(values).reshape(3, 3) / values[8]
    return None


def cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact for multiples of 90 degrees."""
    turns, rest = divmod(degrees, 90.0)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(turns) % 4]
    angle = math.radians(degrees % 360)
    return math.cos(angle), math.sin(angle)


def invert(matrix: Array) -> Array:
    """The inverse [3, 3]; that of a quarter turn or of a scale by a power of two is exact."""
    (a, b, c), (d, e, f), (g, h, i) = cast("list[list[float]]", matrix.tolist())
    adjugate = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    determinant = a * adjugate[0][0] + b * adjugate[1][0] + c * adjugate[2][0]
    inverse: Array = np.array(adjugate) / determinant + 0.0  # −0.0 becomes 0.0
    return inverse


def _projective(matrix: Array) -> PullBack:
    inverse = cast("list[list[float]]", invert(matrix).tolist())
    (a, b, c), (d, e, f), (g, h, i) = inverse

    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        u, v = a * x + b * y + c, d * x + e * y + f
        if (g, h, i) == (0.0, 0.0, 1.0):
            return u, v
        w = g * x + h * y + i
        w = np.where(w > 1e-9, w, np.nan)  # beyond the horizon is nothing
        return u / w, v / w

    return apply


def _lens(k1: float, k2: float) -> PullBack:
    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        square = 2 * (x * x + y * y)  # of the distance, 1 at the corners
        factor = 1 + square * (k1 + square * k2)
        return x * factor, y * factor

    return apply


def _swirl(degrees: float, radius: float) -> PullBack:
    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        nearness = np.maximum(0.0, 1 - np.hypot(x, y) / radius)
        angle = np.radians(degrees) * nearness**2
        cos, sin = np.cos(angle), np.sin(angle)
        return cos * x + sin * y, cos * y - sin * x

    return apply


def _polar() -> PullBack:
    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        return np.arctan2(x, -y) / math.tau, np.hypot(x, y) / _RIM - 0.5

    return apply


def _cylinder(fov: float, yaw: float) -> PullBack:
    reach = 2 * math.tan(math.radians(fov / 2))

    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        x, y = x * reach, y * reach  # the ray (x, y, 1)
        return np.arctan(x) / math.tau + yaw / 360, y / np.sqrt(1 + x * x) / math.tau

    return apply


def _equirect(fov: float, yaw: float, pitch: float) -> PullBack:
    reach = 2 * math.tan(math.radians(fov / 2))
    cos, sin = cos_sin(pitch)

    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        x, y = x * reach, y * reach  # the ray (x, y, 1), y downwards; a positive pitch looks up
        down, ahead = y * cos - sin, y * sin + cos
        longitude = np.arctan2(x, ahead)
        return longitude / math.tau + yaw / 360, np.arctan2(down, np.hypot(x, ahead)) / math.pi

    return apply


def _mesh(*values: float) -> PullBack:
    rows, columns = int(values[0]), int(values[1])
    points = np.array(values[2:]).reshape(rows, columns, 2) - 0.5

    def apply(x: Array, y: Array) -> tuple[Array, Array]:
        column, s = _cell(x, columns)
        row, t = _cell(y, rows)
        s, t = s[..., None], t[..., None]
        upper = points[row, column] * (1 - s) + points[row, column + 1] * s
        lower = points[row + 1, column] * (1 - s) + points[row + 1, column + 1] * s
        found = upper * (1 - t) + lower * t
        return found[..., 0], found[..., 1]

    return apply


def _cell(x: Array, points: int) -> tuple[NDArray[np.int64], Array]:
    """Index of the cell, and the place in it; beyond the square the last cell goes on."""
    place = (x + 0.5) * (points - 1)
    cell = np.clip(np.floor(np.nan_to_num(place)), 0, points - 2)
    return cell.astype(np.int64), place - cell


_CURVED: dict[str, Callable[..., PullBack]] = {
    "lens": _lens,
    "swirl": _swirl,
    "polar": _polar,
    "cylinder": _cylinder,
    "equirect": _equirect,
    "mesh": _mesh,
}
