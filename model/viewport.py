"""Viewports: which region of the plane an image shows at which size, and the network coordinates of its pixels.

Per axis, with N pixels in the whole image and R the training resolution, in float64:

* ``centers``: a_j = x0 + (x1 − x0)(j + ½)/N and u_j = (a_j·R − ½)/(R − 1). Pixel centres of every scale lie at the
  same places of the plane, so a large image averaged down is registered with a small one.
* ``corners``: u_j = x0 + (x1 − x0)·j/(N − 1), or x0 if N = 1, as in the original tools.

Transforms move the picture in the plane of the region, where it fills the unit square (model/geometry/). What only
scales and moves becomes part of the region.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.geometry.maps import pull_back
from model.geometry.orientation import UPRIGHT, Orientation, upright_region
from model.geometry.outside import OUTSIDES, Outside, fold
from model.geometry.sampling import MAX_DETAIL_SAMPLES, mean_samples
from model.geometry.transforms import Transform, check_count, parse_transforms
from model.geometry.wrap import Wrap, seam_weights

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

MAX_UPRIGHT_EXTENT = 64.0
"""Largest region, in squares, that is averaged from all of its positions; a larger one from some samples a pixel."""


@dataclass(frozen=True)
class Viewport:
    """A resolved viewport: defaults are filled in and values are checked.

    Attributes:
        width, height: size W×H of the whole image in pixels.
        region: x0, y0, x1, y1, the region of the plane that the whole image shows (x to the right, y downwards).
        crop: x, y, w, h, the pixels of the whole image that are rendered.
        grid: "centers" or "corners".
        transform: what moves the picture in the plane, in this order.
        outside: what the plane shows where the picture's unit square is not; "extend": the network goes on.
        wrap: axes along which the picture repeats without a seam.
    """

    width: int
    height: int
    region: Region
    crop: Crop
    grid: Grid
    transform: tuple[Transform, ...] = ()
    outside: Outside = "extend"
    wrap: Wrap | None = None

    @classmethod
    def resolve(
        cls,
        width: int,
        height: int,
        region: Region | None = None,
        crop: Crop | None = None,
        grid: Grid = "centers",
        transform: Sequence[Transform] = (),
        outside: Outside = "extend",
        wrap: Wrap | None = None,
    ) -> "Viewport":
        """Check values and fill in defaults.

        The default region is the largest centred window of the image's aspect ratio for ``centers``, and the unit
        square for ``corners``; the default crop is the whole image. Viewports that show the same are equal where the
        transforms only scale and move.

        Raises:
            InputError: ``width``, ``height``, ``region``, ``crop``, ``grid``, ``transform`` or ``outside`` is invalid;
                names its limit.
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
        if outside not in OUTSIDES:
            raise InputError("outside", f"must be one of {', '.join(OUTSIDES)}, not {outside!r}")
        check_count(transform)
        moved = tuple(each for each in transform if not each.is_identity)
        return cls(width, height, (x0, y0, x1, y1), crop, grid, moved, outside, wrap)._simplify()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, without transforms if there are none: the keys of images then stay what they were."""
        names = ("width", "height", "region", "crop", "grid")
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.transform:
            values["transform"] = [each.to_json() for each in self.transform]
        if self.outside != "extend":
            values["outside"] = self.outside
        if self.wrap is not None:
            values["wrap"] = self.wrap.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Viewport":
        """Inverse of :meth:`to_dict`, for trusted values."""
        sequences = {name: tuple(values[name]) for name in ("region", "crop")}
        transform = parse_transforms(values.get("transform", []))
        wrap = Wrap(**values["wrap"]) if "wrap" in values else None
        return cls(**values | sequences | {"transform": transform, "wrap": wrap})

    @cached_property
    def upright(self) -> tuple["Viewport", Orientation] | None:
        """A viewport without transforms whose image, once oriented, is this one.

        None if there is none: then pixels lie anywhere, not on common rows and columns, and the image is *warped*.
        """
        found = upright_region(self.region, self.transform) if self.transform else (self.region, UPRIGHT)
        if found is None:
            return None
        region, orientation = found
        x0, y0, x1, y1 = region
        filled = self.outside == "fill" and not (min(x0, y0) >= 0 and max(x1, y1) <= 1)
        if filled or max(x1 - x0, y1 - y0) > MAX_UPRIGHT_EXTENT:
            return None
        if not self.transform:
            return self, UPRIGHT
        width, height = orientation.upright_size(self.width, self.height)
        crop = orientation.upright_crop(self.crop, self.width, self.height)
        return Viewport(width, height, region, crop, self.grid, (), self.outside, self.wrap), orientation

    def _simplify(self) -> "Viewport":
        """Transforms that only scale and move as a region, and no ``outside`` where there is none."""
        if self.upright is None:
            return self
        upright, orientation = self.upright
        x0, y0, x1, y1 = upright.region
        if min(x1 - x0, y1 - y0) < MIN_REGION_EXTENT:
            raise InputError("transform", f"must not enlarge so much that less than {MIN_REGION_EXTENT:g} is shown")
        low, high = REGION_BOUNDS if self.outside == "extend" else (0.0, 1.0)
        if not (low <= min(x0, y0) and max(x1, y1) <= high):
            return self
        return replace(upright if orientation == UPRIGHT else self, outside="extend")

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

    def supersampling(self, resolution: int, max_scale: float = 1.0) -> tuple[int, int]:
        """Horizontal and vertical factor m by which the image is rendered larger before it is box-averaged.

        See :func:`minification` for the ``centers`` grid, where a small image averages the network's detail instead of
        sampling points of it; 1 on the ``corners`` grid, which samples points as the original tools do. Of a warped
        image, whose pixels have different factors, 1.
        """
        if self.grid == "corners" or self.upright is None:
            return 1, 1
        if self.transform:
            viewport, orientation = self.upright
            m_x, m_y = viewport.supersampling(resolution, max_scale)
            return (m_y, m_x) if orientation.transposed else (m_x, m_y)
        x0, y0, x1, y1 = self.region
        return (
            minification(resolution, max_scale, x1 - x0, self.width),
            minification(resolution, max_scale, y1 - y0, self.height),
        )

    def rendered_pixels(self, resolution: int, max_scale: float = 1.0) -> int:
        """Pixels that the network renders, before averaging; an estimate if the image is warped."""
        if self.upright is None:
            return math.ceil(self.pixels * self._mean_samples(resolution, max_scale))
        m_x, m_y = self.supersampling(resolution, max_scale)
        return self.pixels * m_x * m_y

    def _mean_samples(self, resolution: int, max_scale: float) -> float:
        if self.grid == "corners":
            return 1.0
        x, y, w, h = self.crop
        step = (self.region[2] - self.region[0]) / self.width, (self.region[3] - self.region[1]) / self.height
        columns, rows = self.plane(x, x + w, axis=0), self.plane(y, y + h, axis=1)
        return mean_samples(pull_back(self.transform), columns, rows, step, resolution, max_scale)

    def columns(self, start: int, stop: int, resolution: int, supersampling: int = 1) -> NDArray[np.float64]:
        """Horizontal network coordinates u [stop − start] of columns start … stop − 1 of the whole image.

        With ``supersampling`` m, of an image m times as wide. Columns may lie beyond the image's edges. Of an axis
        that is blended at a seam [3, stop − start], see :meth:`line_coordinates`.
        """
        return self._positions(start, stop, resolution, supersampling, axis=0)

    def rows(self, start: int, stop: int, resolution: int, supersampling: int = 1) -> NDArray[np.float64]:
        """Vertical network coordinates u [stop − start] of rows start … stop − 1, as :meth:`columns`."""
        return self._positions(start, stop, resolution, supersampling, axis=1)

    def plane(self, start: int, stop: int, axis: int, supersampling: int = 1) -> NDArray[np.float64]:
        """Plane coordinates [stop − start] of columns (axis 0) or rows (axis 1), before transforms."""
        count = (self.height if axis else self.width) * supersampling
        low, high = self.region[axis], self.region[axis + 2]
        j = np.arange(start, stop, dtype=np.float64)
        if self.grid == "corners":
            return low + (high - low) * j / (count - 1) if count > 1 else np.full_like(j, low)
        return low + (high - low) * (j + 0.5) / count

    def edges(self, start: int, stop: int, axis: int) -> NDArray[np.float64]:
        """Plane coordinates [stop − start + 1] of the edges of columns or rows of pixels on the ``centers`` grid."""
        low, high = self.region[axis], self.region[axis + 2]
        return low + (high - low) * np.arange(start, stop + 1) / (self.height if axis else self.width)

    def network_coordinates(self, place: NDArray[np.float64], axis: int, resolution: int) -> NDArray[np.float64]:
        """Network coordinates of places of the picture along x (axis 0) or y (axis 1), folded into it first.

        NaN is the fill colour.
        """
        outside = self.outside
        if self.wrap is not None and self.wrap.covers(axis):
            outside = "wrap" if self.wrap.mode == "blend" else "mirror"
        return self._to_network(fold(place, outside), resolution)

    def line_coordinates(self, coordinates: NDArray[np.float64], axis: int, resolution: int) -> NDArray[np.float64]:
        """The lines that make those at network coordinates [L].

        Either the coordinates themselves; or, along an axis whose lines are blended at a seam, [3, L]: coordinates in
        the first period, those one period before, and the weights of the latter.
        """
        if self.wrap is None or not self.wrap.blends(axis):
            return coordinates
        place = coordinates if self.grid == "corners" else (coordinates * (resolution - 1) + 0.5) / resolution
        place = place % 1
        pair = (self._to_network(each, resolution) for each in (place, place - 1))
        return np.stack([*pair, seam_weights(place, self.wrap.blend)])

    def _to_network(self, place: NDArray[np.float64], resolution: int) -> NDArray[np.float64]:
        return place if self.grid == "corners" else (place * resolution - 0.5) / (resolution - 1)

    def _positions(self, start: int, stop: int, resolution: int, supersampling: int, axis: int) -> NDArray[np.float64]:
        if self.transform:
            raise ValueError("only an upright viewport has rows and columns")
        coordinates = self.network_coordinates(self.plane(start, stop, axis, supersampling), axis, resolution)
        return self.line_coordinates(coordinates, axis, resolution)


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


@lru_cache(1024)  # a request asks for it several times, and viewers for images of the same few sizes
def minification(resolution: int, max_scale: float, extent: float, pixels: int) -> int:
    """Samples a pixel along an axis that shows ``extent`` of the unit square with N ``pixels``.

    m = ⌈R·extent/N⌉, so that no detail of the training resolution R is skipped. A network that was trained on patches
    has detail of up to R·max_scale pixels: m = ⌈R·max_scale·extent/N⌉ if that is more, but not above
    MAX_DETAIL_SAMPLES.
    """
    ratio = resolution * extent / pixels
    # A region such as 0.1 … 0.4 with an extent of 0.30000000000000004 must not cost four times the work.
    detail = math.ceil(ratio * max_scale - 1e-9)
    return max(1, math.ceil(ratio - 1e-9), min(detail, MAX_DETAIL_SAMPLES))


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
