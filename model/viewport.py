"""Viewports: which region of the plane an image shows at which size, and the network coordinates of its pixels.

Per axis, with N pixels in the whole image and R the training resolution, in float64:

* ``centers``: a_j = x0 + (x1 − x0)(j + ½)/N and u_j = (a_j·R − ½)/(R − 1). Pixel centres of every scale lie at the
  same places of the plane, so a large image averaged down is registered with a small one.
* ``corners``: u_j = x0 + (x1 − x0)·j/(N − 1), or x0 if N = 1, as in the original tools.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

Grid = Literal["centers", "corners"]
Region = tuple[float, float, float, float]
Crop = tuple[int, int, int, int]

MAX_SIDE = 262_144
"""Largest width or height of a whole image in pixels."""

REGION_BOUNDS = (-1.0, 2.0)
"""Limits of a region. The network extrapolates outside of the unit square."""

MIN_REGION_EXTENT = 1e-9
"""Smallest width or height of a region, at which float64 still separates the pixels of the largest images."""

FULL_SQUARE: Region = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Viewport:
    """A resolved viewport: defaults are filled in and values are checked.

    Attributes:
        width, height: size W×H of the whole image in pixels.
        region: x0, y0, x1, y1, the region of the plane that the whole image shows (x to the right, y downwards).
        crop: x, y, w, h, the pixels of the whole image that are rendered.
        grid: "centers" or "corners".
    """

    width: int
    height: int
    region: Region
    crop: Crop
    grid: Grid

    @classmethod
    def resolve(
        cls,
        width: int,
        height: int,
        region: Region | None = None,
        crop: Crop | None = None,
        grid: Grid = "centers",
    ) -> "Viewport":
        """Check values and fill in defaults.

        The default region is the largest centred window of the image's aspect ratio for ``centers``, and the unit
        square for ``corners``; the default crop is the whole image.

        Raises:
            InputError: ``width``, ``height``, ``region``, ``crop`` or ``grid`` is invalid; names its limit.
        """
        for field, side in (("width", width), ("height", height)):
            if not 1 <= side <= MAX_SIDE:
                raise InputError(field, f"must be from 1 to {MAX_SIDE} pixels, not {side}")
        if grid not in get_args(Grid):
            raise InputError("grid", f"must be one of {', '.join(get_args(Grid))}, not {grid!r}")
        if region is None:
            region = _centred_window(width, height) if grid == "centers" else FULL_SQUARE
        _check_region(region)
        if crop is None:
            crop = (0, 0, width, height)
        _check_crop(crop, width, height)
        x0, y0, x1, y1 = (float(value) + 0.0 for value in region)  # + 0.0 turns −0.0 into 0.0
        return cls(width, height, (x0, y0, x1, y1), crop, grid)

    @property
    def pixels(self) -> int:
        """Pixels of the crop, w·h."""
        return self.crop[2] * self.crop[3]

    @property
    def crop_region(self) -> Region:
        """The region that the crop shows, as x0, y0, x1, y1."""
        x, y, w, h = self.crop
        x0, x1 = _interval(self.region[0], self.region[2], x, w, self.width, self.grid)
        y0, y1 = _interval(self.region[1], self.region[3], y, h, self.height, self.grid)
        return x0, y0, x1, y1

    def supersampling(self, resolution: int) -> tuple[int, int]:
        """Horizontal and vertical factor m by which the image is rendered larger before it is box-averaged.

        m = ⌈R(x1 − x0)/N⌉ on the ``centers`` grid, so that a small image averages the network's detail instead of
        sampling points of it; 1 on the ``corners`` grid, which samples points as the original tools do.
        """
        if self.grid == "corners":
            return 1, 1
        x0, y0, x1, y1 = self.region
        return _minification(resolution, x1 - x0, self.width), _minification(resolution, y1 - y0, self.height)

    def rendered_pixels(self, resolution: int) -> int:
        """Pixels that the network renders, before averaging."""
        m_x, m_y = self.supersampling(resolution)
        return self.pixels * m_x * m_y

    def columns(self, start: int, stop: int, resolution: int, supersampling: int = 1) -> NDArray[np.float64]:
        """Horizontal network coordinates u [stop − start] of columns start … stop − 1 of the whole image.

        With ``supersampling`` m, of an image m times as wide. Columns may lie beyond the image's edges.
        """
        return self._positions(start, stop, resolution, self.width * supersampling, axis=0)

    def rows(self, start: int, stop: int, resolution: int, supersampling: int = 1) -> NDArray[np.float64]:
        """Vertical network coordinates u [stop − start] of rows start … stop − 1, as :meth:`columns`."""
        return self._positions(start, stop, resolution, self.height * supersampling, axis=1)

    def _positions(self, start: int, stop: int, resolution: int, count: int, axis: int) -> NDArray[np.float64]:
        low, high = self.region[axis], self.region[axis + 2]
        j = np.arange(start, stop, dtype=np.float64)
        if self.grid == "corners":
            return low + (high - low) * j / (count - 1) if count > 1 else np.full_like(j, low)
        a = low + (high - low) * (j + 0.5) / count
        return (a * resolution - 0.5) / (resolution - 1)


def _centred_window(width: int, height: int) -> Region:
    side = max(width, height)
    x0, y0 = (1 - width / side) / 2, (1 - height / side) / 2
    return (x0, y0, 1 - x0, 1 - y0)


def _interval(low: float, high: float, start: int, length: int, count: int, grid: Grid) -> tuple[float, float]:
    """The interval that pixels start … start + length − 1 of ``count`` show: edge to edge, or centre to centre."""
    if length == count:
        return low, high
    last, steps = (start + length, count) if grid == "centers" else (start + length - 1, count - 1)
    return low + (high - low) * start / steps, low + (high - low) * last / steps


def _minification(resolution: int, extent: float, pixels: int) -> int:
    ratio = resolution * extent / pixels
    # A region such as 0.1 … 0.4 with an extent of 0.30000000000000004 must not cost four times the work.
    return max(1, math.ceil(ratio - 1e-9))


def _check_region(region: Region) -> None:
    low, high = REGION_BOUNDS
    if len(region) != 4 or not all(math.isfinite(value) for value in region):
        raise InputError("region", "must be four finite numbers x0,y0,x1,y1")
    if not all(low <= value <= high for value in region):
        raise InputError("region", f"must lie within {low:g} and {high:g}, not {_join(region)}")
    x0, y0, x1, y1 = region
    if x1 - x0 < MIN_REGION_EXTENT or y1 - y0 < MIN_REGION_EXTENT:
        raise InputError(
            "region", f"must have x1 − x0 and y1 − y0 of at least {MIN_REGION_EXTENT:g}, not {_join(region)}"
        )


def _check_crop(crop: Crop, width: int, height: int) -> None:
    if len(crop) != 4:
        raise InputError("crop", "must be four integers x,y,w,h")
    x, y, w, h = crop
    if w < 1 or h < 1:
        raise InputError("crop", f"must be at least 1×1 pixels, not {w}×{h}")
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise InputError("crop", f"must lie inside the {width}×{height} image, not {_join(crop)}")


def _join(values: Region | Crop) -> str:
    return ",".join(f"{value:.15g}" if isinstance(value, float) else str(value) for value in values)
