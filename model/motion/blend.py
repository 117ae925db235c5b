"""Transforms between those of two keyframes."""

from collections.abc import Sequence

from model.errors import InputError
from model.geometry.transforms import Kind, Transform

Transforms = Sequence[Transform]

_IDENTITIES: dict[Kind, tuple[float, ...]] = {
    "rotate": (0,),
    "translate": (0, 0),
    "scale": (1, 1),
    "shear": (0, 0),
    "matrix": (1, 0, 0, 0, 1, 0),
    "perspective": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "lens": (0, 0),
}


def blend(start: Transforms, end: Transforms, t: float) -> tuple[Transform, ...]:
    """The transforms at t from 0 to 1, between two that fit each other: numbers change evenly, scales exponentially.

    Raises InputError for ``transform`` if one on the way is invalid, such as a singular matrix.
    """
    if t in (0.0, 1.0):
        return tuple(end if t else start)
    return tuple(_blend(first, last, t) for first, last in pair_transforms(start, end))


def pair_transforms(start: Transforms, end: Transforms) -> list[tuple[Transform, Transform]]:
    """Transforms that turn into each other; the shorter list goes on with such as move nothing.

    Raises InputError for ``transform`` if their kinds differ.
    """
    count = max(len(start), len(end))
    pairs = zip(_extend(start, end, count), _extend(end, start, count), strict=True)
    return [_check_pair(first, last) for first, last in pairs]


def _extend(given: Transforms, other: Transforms, count: int) -> list[Transform]:
    return [given[i] if i < len(given) else _identity(other[i]) for i in range(count)]


def _identity(like: Transform) -> Transform:
    if like.kind == "swirl":
        return Transform("swirl", (0.0, like.values[1]))
    if like.kind not in _IDENTITIES:
        raise InputError("transform", f"with {like.kind} needs {like.kind} in the keyframes before and after, too")
    return Transform(like.kind, _IDENTITIES[like.kind])


def _check_pair(first: Transform, last: Transform) -> tuple[Transform, Transform]:
    if first.kind != last.kind:
        raise InputError("transform", f"cannot turn {first.kind} into {last.kind}: keyframes need kinds in one order")
    if first.kind == "mesh" and first.values[:2] != last.values[:2]:
        raise InputError("transform", "cannot turn a mesh into one of other rows and columns")
    if first.kind == "scale" and any(a * b < 0 for a, b in zip(first.values, last.values, strict=True)):
        raise InputError("transform", "cannot turn a scale into a mirrored one")
    return first, last


def _blend(first: Transform, last: Transform, t: float) -> Transform:
    pairs = list(zip(first.values, last.values, strict=True))
    if first.kind == "scale":
        return Transform("scale", tuple(a * (b / a) ** t for a, b in pairs))
    return Transform(first.kind, tuple(a + (b - a) * t for a, b in pairs))
