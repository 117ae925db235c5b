"""Transforms: values, their limits and their JSON.

Transforms of a list are applied in order; each moves the picture about the centre of the unit square, in its units.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from model.errors import InputError

Kind = Literal[
    "rotate",
    "translate",
    "scale",
    "shear",
    "matrix",
    "perspective",
    "lens",
    "swirl",
    "polar",
    "cylinder",
    "equirect",
    "mesh",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_TRANSFORMS = 16

MAX_DEGREES = 36_000.0

SCALES = (1 / 1024, 1024.0)
"""Smallest and largest factor of a scale."""

MAX_ENTRY = 1024.0
"""Largest entry of a matrix, shift or shear."""

MIN_DETERMINANT = 1e-9
"""Smallest determinant of a matrix, below which it counts as singular."""

FIELDS_OF_VIEW = (1.0, 170.0)

RADII = (0.01, 4.0)

MESH_SIDES = (2, 33)
"""Fewest and most points along a side of a mesh."""

MESH_BOUNDS = (-1.0, 2.0)

LISTS: dict[Kind, int] = {"translate": 2, "scale": 2, "shear": 2, "matrix": 6, "perspective": 9}
"""Kinds whose values are a list, with its length."""

NAMED: dict[Kind, dict[str, float | None]] = {
    "lens": {"k1": None, "k2": 0.0},
    "swirl": {"degrees": None, "radius": 0.5},
    "polar": {},
    "cylinder": {"fov": 90.0, "yaw": 0.0},
    "equirect": {"fov": 90.0, "yaw": 0.0, "pitch": 0.0},
}
"""Kinds whose values have names, with their defaults; None is required."""


@dataclass(frozen=True)
class Transform:
    """One transform.

    Attributes:
        values: the angle of ``rotate``, the list of LISTS, the named values of NAMED in their order, or rows, columns
            and the points x, y, x, y … of a ``mesh``, row by row.

    Raises:
        InputError: names the field ``transform`` and the limit.
    """

    kind: Kind
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("transform", f"must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not all(math.isfinite(value) for value in self.values):
            raise InputError("transform", f"{self.kind} must have finite numbers")
        object.__setattr__(self, "values", tuple(float(value) + 0.0 for value in self.values))  # −0.0 becomes 0.0
        _CHECKS[self.kind](self.values)

    def to_json(self) -> dict[str, Any]:
        """The form in which users give it, such as ``{"rotate": 30.0}``."""
        if self.kind == "rotate":
            return {"rotate": self.values[0]}
        if self.kind in LISTS:
            return {self.kind: list(self.values)}
        if self.kind == "mesh":
            rows, columns, *numbers = self.values
            points = [list(point) for point in zip(numbers[::2], numbers[1::2], strict=True)]
            return {"mesh": {"rows": int(rows), "columns": int(columns), "points": points}}
        return {self.kind: dict(zip(NAMED[self.kind], self.values, strict=True))}

    @property
    def is_identity(self) -> bool:
        """Whether it moves nothing."""
        if self.kind in ("lens", "translate", "shear"):
            return self.values == (0.0, 0.0)
        if self.kind == "rotate":
            return self.values[0] % 360 == 0
        if self.kind == "swirl":
            return self.values[0] == 0
        identity = {"scale": (1, 1), "matrix": (1, 0, 0, 0, 1, 0), "perspective": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
        return self.values == identity.get(self.kind)


def parse_transforms(given: object) -> tuple[Transform, ...]:
    """Transforms from JSON values: a list of objects of one name each. Raises InputError for ``transform``."""
    if not isinstance(given, list):
        raise InputError("transform", 'must be a list such as [{"rotate": 30}]')
    check_count(given)
    return tuple(parse_transform(each) for each in given)


def check_count(transforms: Sequence[object]) -> None:
    if len(transforms) > MAX_TRANSFORMS:
        raise InputError("transform", f"must have at most {MAX_TRANSFORMS} entries, not {len(transforms)}")


def parse_transform(given: object) -> Transform:
    """A transform from a JSON value such as ``{"rotate": 30}``. Raises InputError for ``transform``."""
    if not isinstance(given, Mapping) or len(given) != 1:
        raise InputError("transform", f"must have entries of one name each, of {', '.join(KINDS)}")
    kind, value = next(iter(given.items()))
    if kind not in KINDS:
        raise InputError("transform", f"must be one of {', '.join(KINDS)}, not {str(kind)[:40]!r}")
    if kind == "rotate":
        return Transform(kind, (_number(kind, value),))
    if kind == "scale" and not isinstance(value, list | tuple):
        return Transform(kind, (_number(kind, value),) * 2)
    if kind in LISTS:
        return Transform(kind, _numbers(kind, value, LISTS[kind]))
    if not isinstance(value, Mapping):
        raise InputError("transform", f"{kind} must be an object")
    if kind == "mesh":
        return _parse_mesh(value)
    names = NAMED[kind]
    if unknown := next((name for name in value if name not in names), None):
        known = f"has {', '.join(names)}" if names else "has no values"
        raise InputError("transform", f"{kind} {known}, not {str(unknown)[:40]!r}")
    numbers = []
    for name, default in names.items():
        if (found := value.get(name, default)) is None:
            raise InputError("transform", f"{kind} needs {name}")
        numbers.append(_number(f"{kind}.{name}", found))
    return Transform(kind, tuple(numbers))


def _parse_mesh(value: Mapping[str, object]) -> Transform:
    if set(value) != {"rows", "columns", "points"}:
        raise InputError("transform", "mesh must have rows, columns and points, and nothing else")
    sides = [_number(f"mesh.{name}", value[name]) for name in ("rows", "columns")]
    points = value["points"]
    if not isinstance(points, list | tuple):
        raise InputError("transform", "mesh.points must be a list of points [x, y]")
    _check_sides(*sides)
    if len(points) != sides[0] * sides[1]:
        raise InputError("transform", f"mesh must have {sides[0] * sides[1]:g} points, rows·columns, not {len(points)}")
    numbers = [number for point in points for number in _numbers("mesh.points", point, 2)]
    return Transform("mesh", (*sides, *numbers))


def _numbers(name: str, value: object, count: int) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != count:
        raise InputError("transform", f"{name} must have {count} numbers")
    return tuple(_number(name, each) for each in value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e9:  # also refuses NaN
        raise InputError("transform", f"{name} must be a number from -1e9 to 1e9")
    return float(value)


def _check_range(name: str, values: Iterable[float], low: float, high: float) -> None:
    if not all(low <= value <= high for value in values):
        raise InputError("transform", f"{name} must be from {low:.6g} to {high:.6g}")


def _check_determinant(name: str, matrix: list[list[float]]) -> None:
    if abs(float(np.linalg.det(np.array(matrix)))) < MIN_DETERMINANT:
        raise InputError("transform", f"{name} is singular: its determinant must be at least {MIN_DETERMINANT:g}")


def _check_rotate(values: tuple[float, ...]) -> None:
    _check_range("rotate", values, -MAX_DEGREES, MAX_DEGREES)


def _check_translate(values: tuple[float, ...]) -> None:
    _check_range("translate", values, -MAX_ENTRY, MAX_ENTRY)


def _check_scale(values: tuple[float, ...]) -> None:
    _check_range("scale, without its sign,", map(abs, values), *SCALES)


def _check_shear(values: tuple[float, ...]) -> None:
    _check_range("shear", values, -MAX_ENTRY, MAX_ENTRY)
    x, y = values
    _check_determinant("shear", [[1, x], [y, 1]])


def _check_matrix(values: tuple[float, ...]) -> None:
    _check_range("matrix", values, -MAX_ENTRY, MAX_ENTRY)
    a, b, _, d, e, _ = values
    _check_determinant("matrix", [[a, b], [d, e]])


def _check_perspective(values: tuple[float, ...]) -> None:
    _check_range("perspective", values, -MAX_ENTRY, MAX_ENTRY)
    if values[8] < MIN_DETERMINANT:
        raise InputError("transform", "perspective must have a last number above 0: the centre must be in front")
    _check_determinant("perspective", (np.array(values).reshape(3, 3) / values[8]).tolist())


def _check_lens(values: tuple[float, ...]) -> None:
    _check_range("lens", values, -10, 10)
    k1, k2 = values
    squares = np.linspace(0, 1, 257)  # of the distance, up to the corners of the square
    if (1 + 3 * k1 * squares + 5 * k2 * squares**2).min() <= 0:
        raise InputError("transform", "lens folds the picture: 1 + 3·k1·r² + 5·k2·r⁴ must be above 0 for r from 0 to 1")


def _check_swirl(values: tuple[float, ...]) -> None:
    _check_range("swirl.degrees", values[:1], -MAX_DEGREES / 10, MAX_DEGREES / 10)
    _check_range("swirl.radius", values[1:], *RADII)


def _check_polar(values: tuple[float, ...]) -> None:
    pass


def _check_cylinder(values: tuple[float, ...]) -> None:
    _check_range("cylinder.fov", values[:1], *FIELDS_OF_VIEW)
    _check_range("cylinder.yaw", values[1:], -360, 360)


def _check_equirect(values: tuple[float, ...]) -> None:
    _check_range("equirect.fov", values[:1], *FIELDS_OF_VIEW)
    _check_range("equirect.yaw", values[1:2], -360, 360)
    _check_range("equirect.pitch", values[2:], -90, 90)


def _check_sides(rows: float, columns: float) -> None:
    low, high = MESH_SIDES
    if not all(low <= side <= high and side == int(side) for side in (rows, columns)):
        raise InputError("transform", f"mesh.rows and mesh.columns must be integers from {low} to {high}")


def _check_mesh(values: tuple[float, ...]) -> None:
    _check_sides(*values[:2])
    rows, columns = map(int, values[:2])
    _check_range("mesh.points", values[2:], *MESH_BOUNDS)
    points = np.array(values[2:]).reshape(rows, columns, 2)
    right, down = np.diff(points, axis=1), np.diff(points, axis=0)
    # The Jacobian of a bilinear cell is extreme in its corners.
    for x in (right[:-1], right[1:]):
        for y in (down[:, :-1], down[:, 1:]):
            if (x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0]).min() < MIN_DETERMINANT:
                raise InputError(
                    "transform", "mesh folds the picture: every cell must keep its orientation and an area"
                )


_CHECKS = {
    "rotate": _check_rotate,
    "translate": _check_translate,
    "scale": _check_scale,
    "shear": _check_shear,
    "matrix": _check_matrix,
    "perspective": _check_perspective,
    "lens": _check_lens,
    "swirl": _check_swirl,
    "polar": _check_polar,
    "cylinder": _check_cylinder,
    "equirect": _check_equirect,
    "mesh": _check_mesh,
}
