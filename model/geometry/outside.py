"""What a picture shows outside of the unit square."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Outside = Literal["extend", "clamp", "mirror", "wrap", "fill"]
OUTSIDES: tuple[Outside, ...] = get_args(Outside)

REACH = (-1.0, 2.0)
"""How far the network is extended; its last value goes on beyond."""


def fold(place: NDArray[np.float64], outside: Outside) -> NDArray[np.float64]:
    """Coordinates of the picture to show at coordinates of the plane along one axis. NaN is the fill colour."""
    match outside:
        case "extend":
            return np.clip(place, *REACH)
        case "clamp":
            return np.clip(place, 0.0, 1.0)
        case "mirror":
            return 1 - np.abs(1 - place % 2)
        case "wrap":
            return place % 1
        case "fill":
            return np.where((place >= 0) & (place <= 1), place, np.nan)
