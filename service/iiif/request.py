"""The grammar of image requests: /{region}/{size}/{rotation}/{quality}.{format} (section 4)."""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from model.errors import InputError
from model.geometry.sampling import MAX_DETAIL_SAMPLES
from model.spec import Format
from model.viewport import minification
from service.imaging.encode import FORMATS_BY_SUFFIX
from service.imaging.pyramid import Box, Sides

Quality = Literal["default", "color", "gray", "bitonal"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

SUFFIXES = tuple(FORMATS_BY_SUFFIX)

_OTHER_SUFFIXES = ("tif", "gif", "jp2", "pdf")
"""Formats of the specification that are not supported (section 4.5)."""

_INTEGER = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"(\d{1,9}(\.\d{0,15})?|\.\d{1,15})", re.ASCII)


class BadSyntaxError(InputError):
    """The address does not follow the specification, or the region or size is out of range: 400."""


class UnknownIdentifierError(InputError):
    """The identifier names no image: 404."""


class UnsupportedError(InputError):
    """The address follows the specification, but uses a feature that is not supported: 501."""


@dataclass(frozen=True)
class Limits:
    """The largest image that one request may return, as info.json states it.

    Attributes:
        width, height, area: in pixels.
        resolution: training resolution R of the network that renders the responses, 1 for stored images. A whole image
            of fewer than R pixels a side is averaged from an integer multiple of its size, at least R, which must not
            exceed ``area`` either.
        max_scale: scale of the network's finest detail, for which larger images are averaged, too.
    """

    width: int
    height: int
    area: int
    resolution: int = 1
    max_scale: float = 1.0

    def allow(self, sides: Sides) -> bool:
        width, height = sides
        return width <= self.width and height <= self.height and width * height <= self.area

    def allow_rendering(self, sides: Sides, fraction: float = 1.0) -> bool:
        """Whether both the response and the rendering it is averaged from are within the limits. The region shows
        ``fraction`` of each side of the image."""
        rendered = math.prod(side * minification(self.resolution, self.max_scale, fraction, side) for side in sides)
        return self.allow(sides) and rendered <= self.area

    def largest_rendered(self, side: int) -> int:
        """The longest side, up to ``side``, at which a square image can be rendered whole; 0 if there is none."""
        longest = math.isqrt(self.area)
        if longest < self.resolution:
            return 0
        most = min(side, self.width, self.height, longest)
        factors = range(-(-self.resolution // most), max(self.resolution, MAX_DETAIL_SAMPLES) + 1)
        sides = (min(most, longest // factor) for factor in factors)
        return next(found for found in sides if self.allow_rendering((found, found)))

    def largest(self, sides: Sides, scale: float = math.inf) -> Sides:
        """``sides`` scaled to the largest allowed size, by at most ``scale`` and to at least one pixel."""
        width, height = sides
        scale = min(scale, self.width / width, self.height / height, math.sqrt(self.area / (width * height)))
        width, height = (max(1, math.floor(side * scale + 1e-9)) for side in sides)
        if width < height:  # raising the width to one pixel may have exceeded the area
            return width, min(height, self.area // width)
        return min(width, self.area // height), height


@dataclass(frozen=True)
class Region:
    """``full``, ``square``, ``x,y,w,h`` in pixels, or ``pct:x,y,w,h`` in percent of the sides (section 4.1)."""

    kind: Literal["full", "square", "pixels", "percent"]
    values: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Raises BadSyntaxError."""
        if text in ("full", "square"):
            return cls("full" if text == "full" else "square")
        percent = text.startswith("pct:")
        parts = text.removeprefix("pct:").split(",")
        values = [parse_decimal(part) if percent else parse_integer(part) for part in parts]
        if len(values) != 4 or None in values:
            raise BadSyntaxError("region", "must be full, square, x,y,w,h or pct:x,y,w,h")
        return cls("percent" if percent else "pixels", tuple(value for value in values if value is not None))

    def resolve(self, width: int, height: int) -> Box:
        """The region within an image of that size, clipped at its edges. Raises BadSyntaxError if it is empty."""
        if self.kind == "full":
            return 0, 0, width, height
        if self.kind == "square":
            side = min(width, height)
            return (width - side) // 2, (height - side) // 2, side, side
        x, y, w, h = self.values
        if not w or not h:
            raise BadSyntaxError("region", "must have a width and a height above 0")
        if self.kind == "percent":
            x, w, y, h = x * width / 100, w * width / 100, y * height / 100, h * height / 100
        if x >= width or y >= height:
            raise BadSyntaxError("region", f"must overlap the image of {width}×{height} pixels")
        left, top = min(round(x), width - 1), min(round(y), height - 1)
        right, bottom = max(round(x + w), left + 1), max(round(y + h), top + 1)
        return left, top, min(right, width) - left, min(bottom, height) - top


@dataclass(frozen=True)
class Size:
    """``max``, ``w,``, ``,h``, ``w,h``, ``!w,h`` (the largest that fits) or ``pct:n``; ``^`` allows upscaling (section
    4.2)."""

    kind: Literal["max", "width", "height", "exact", "confined", "percent"]
    upscale: bool
    values: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Raises BadSyntaxError."""
        upscale = text.startswith("^")
        rest = text.removeprefix("^")
        if rest == "max":
            return cls("max", upscale)
        if rest.startswith("pct:") and (percent := parse_decimal(rest.removeprefix("pct:"))) is not None:
            return cls("percent", upscale, (percent,))
        confined = rest.startswith("!")
        sides = rest.removeprefix("!").split(",")
        values = tuple(value for side in sides if (value := parse_integer(side)) is not None)
        if len(sides) == 2 and len(values) == 2:
            return cls("confined" if confined else "exact", upscale, values)
        if len(sides) == 2 and len(values) == 1 and "" in sides and not confined:
            return cls("width" if sides[0] else "height", upscale, values)
        raise BadSyntaxError("size", "must be max, w,  ,h  w,h  !w,h or pct:n, optionally after ^")

    def resolve(self, region: Sides, limits: Limits) -> Sides:
        """The size of the response for a region of that size. Raises BadSyntaxError if it is empty, larger than the
        region without ``^``, or beyond the limits."""
        sides = self._scale(region, limits)
        if min(sides) < 1:
            raise BadSyntaxError("size", "must be at least one pixel each way")
        if not self.upscale and (sides[0] > region[0] or sides[1] > region[1]):
            raise BadSyntaxError("size", f"must be at most the region's {region[0]}×{region[1]}; use ^ to upscale")
        if not limits.allow(sides):
            most = f"{limits.width}×{limits.height} and {limits.area} pixels in all"
            raise BadSyntaxError("size", f"must be at most {most}, not {sides[0]}×{sides[1]}")
        return sides

    def _scale(self, region: Sides, limits: Limits) -> Sides:
        width, height = region
        match self.kind:
            case "max":
                return region if not self.upscale and limits.allow(region) else limits.largest(region)
            case "percent":
                return _scale(region, self.values[0] / 100) if self.values[0] else (0, 0)
            case "width":
                w = int(self.values[0])
                return w, max(1, round(height * w / width))
            case "height":
                h = int(self.values[0])
                return max(1, round(width * h / height)), h
            case "exact":
                return int(self.values[0]), int(self.values[1])
            case "confined":
                w, h = int(self.values[0]), int(self.values[1])
                if not w or not h:
                    return 0, 0
                scale = min(w / width, h / height)
                scaled = _scale(region, scale)
                scaled = min(scaled[0], w), min(scaled[1], h)
                # Section 4.2 returns the region in its own size if w and h are both larger, but the validator of the
                # IIIF consortium demands an error (its test size_noup).
                if limits.allow(scaled) or (scale > 1 and not self.upscale):
                    return scaled
                # Besides max, only this form adapts to the limits.
                return limits.largest(region, scale)


@dataclass(frozen=True)
class Rotation:
    """Optional mirroring at the vertical axis, then a clockwise rotation by ``degrees`` (section 4.3)."""

    degrees: float
    mirrored: bool

    @classmethod
    def parse(cls, text: str) -> "Rotation":
        """Parse ``n`` or ``!n``. Raises BadSyntaxError."""
        degrees = parse_decimal(text.removeprefix("!"))
        if degrees is None or not 0 <= degrees <= 360:
            raise BadSyntaxError("rotation", "must be n or !n, with n from 0 to 360")
        return cls(round(degrees, 9) % 360, text.startswith("!"))

    def __str__(self) -> str:
        """The canonical form."""
        return f"{'!' if self.mirrored else ''}{self.degrees:.9f}".rstrip("0").rstrip(".")

    @property
    def is_oblique(self) -> bool:
        """Whether it is no multiple of 90 degrees."""
        return self.degrees % 90 != 0


@dataclass(frozen=True)
class ResolvedRequest:
    """A request for an image of known size: ``box`` scaled to ``sides``, then rotated.

    ``canonical`` is the canonical form of its path, relative to the image's address.
    """

    box: Box
    sides: Sides
    rotation: Rotation
    quality: Quality
    suffix: str
    canonical: str

    @property
    def format(self) -> Format:
        return FORMATS_BY_SUFFIX[self.suffix]

    @property
    def is_plain(self) -> bool:
        """Whether the pixels are neither turned nor changed in colour."""
        return self.rotation == Rotation(0, mirrored=False) and self.quality in ("default", "color")


@dataclass(frozen=True)
class IIIFRequest:
    """A parsed request, for an image of any size."""

    region: Region
    size: Size
    rotation: Rotation
    quality: Quality
    suffix: str

    @classmethod
    def parse(cls, region: str, size: str, rotation: str, quality: str, suffix: str) -> "IIIFRequest":
        """Raises BadSyntaxError or UnsupportedError."""
        if quality not in QUALITIES:
            raise BadSyntaxError("quality", f"must be one of {', '.join(QUALITIES)}")
        if suffix not in SUFFIXES:
            error = UnsupportedError if suffix in _OTHER_SUFFIXES else BadSyntaxError
            raise error("format", f"must be one of {', '.join(SUFFIXES)}")
        return cls(Region.parse(region), Size.parse(size), Rotation.parse(rotation), quality, suffix)

    def resolve(self, width: int, height: int, limits: Limits) -> ResolvedRequest:
        """The request for an image of that size. Raises BadSyntaxError if region or size are out of bounds."""
        box = self.region.resolve(width, height)
        sides = self.size.resolve(box[2:], limits)
        region = "full" if box == (0, 0, width, height) else ",".join(map(str, box))
        quality: Quality = "default" if self.quality == "color" else self.quality
        canonical = f"{region}/{canonical_size(sides, box[2:], limits)}/{self.rotation}/{quality}.{self.suffix}"
        return ResolvedRequest(box, sides, self.rotation, quality, self.suffix, canonical)


def canonical_size(sides: Sides, region: Sides, limits: Limits) -> str:
    """The canonical form of a size (section 4.7)."""
    for text in ("max", "^max"):
        if Size.parse(text)._scale(region, limits) == sides:
            return text
    larger = sides[0] > region[0] or sides[1] > region[1]
    return f"{'^' if larger else ''}{sides[0]},{sides[1]}"


def parse_integer(text: str) -> int | None:
    """An integer of up to nine digits, or None."""
    return int(text) if _INTEGER.fullmatch(text) else None


def parse_decimal(text: str) -> float | None:
    """A number without a sign or an exponent, or None."""
    return float(text) if _DECIMAL.fullmatch(text) else None


def _scale(sides: Sides, factor: float) -> Sides:
    width, height = (max(1, round(side * factor)) for side in sides)
    return width, height
