"""Seamless pictures: axes along which the picture repeats without a seam, because its lines do.

In the last part of a period a line turns smoothly into that of one period before, with which the next period begins.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

Axes = Literal["x", "y", "xy"]
AXES: tuple[Axes, ...] = get_args(Axes)

WrapMode = Literal["blend", "mirror"]
MODES: tuple[WrapMode, ...] = get_args(WrapMode)

DEFAULT_BLEND = 0.3

BLENDS = (0.01, 1.0)
"""Shortest and longest part of a period that is blended."""


@dataclass(frozen=True)
class Wrap:
    """How a picture repeats, with a period of the unit square's side.

    Attributes:
        axes: "x", "y" or "xy".
        mode: "blend" blends lines; "mirror" shows every other period mirrored, and changes nothing inside.
        blend: part of the period that is blended.

    Raises:
        InputError: ``wrap``, ``wrap_mode`` or ``wrap_blend`` is invalid.
    """

    axes: Axes
    mode: WrapMode = "blend"
    blend: float = DEFAULT_BLEND

    def __post_init__(self) -> None:
        if self.axes not in AXES:
            raise InputError("wrap", f"must be one of {', '.join(AXES)}, not {self.axes!r}")
        if self.mode not in MODES:
            raise InputError("wrap_mode", f"must be one of {', '.join(MODES)}, not {self.mode!r}")
        low, high = BLENDS
        if not low <= self.blend <= high:
            raise InputError("wrap_blend", f"must be from {low:g} to {high:g}, not {self.blend:g}")
        # Equal pictures have one key; 1 becomes 1.0.
        object.__setattr__(self, "blend", float(self.blend) if self.mode == "blend" else DEFAULT_BLEND)

    def covers(self, axis: int) -> bool:
        """Whether the picture repeats along x (axis 0) or y (axis 1)."""
        return "xy"[axis] in self.axes

    def blends(self, axis: int) -> bool:
        return self.mode == "blend" and self.covers(axis)

    def to_dict(self) -> dict[str, Any]:
        return {"axes": self.axes, "mode": self.mode, "blend": self.blend}


def seam_weights(place: NDArray[np.float64], blend: float) -> NDArray[np.float64]:
    """How much of the line of one period before belongs to lines at places 0 … 1 of a period: smoothstep at its end."""
    t = np.clip((place - (1 - blend)) / blend, 0.0, 1.0)
    weights: NDArray[np.float64] = t * t * (3 - 2 * t)
    return weights
