"""An image request: /{region}/{size}/{rotation}/{quality}.{format} (section 4)."""

from dataclasses import dataclass
from typing import Literal, get_args

from service.iiif import region as regions
from service.iiif import size as sizes
from service.iiif.errors import BadSyntaxError, UnsupportedError
from service.iiif.region import Box, Region
from service.iiif.rotation import Rotation
from service.iiif.size import Limits, Sides, Size

Quality = Literal["default", "color", "gray", "bitonal"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

Suffix = Literal["jpg", "png", "webp"]
SUFFIXES: tuple[Suffix, ...] = get_args(Suffix)

_OTHER_SUFFIXES = ("tif", "gif", "jp2", "pdf")
"""What the specification names beside (section 4.5)."""


@dataclass(frozen=True)
class Resolved:
    """A request for a picture of known size.

    Attributes:
        box: the region.
        sides: of the answer before it is turned.
        canonical: the end of the request's address in its canonical form, without a slash before it.
    """

    box: Box
    sides: Sides
    rotation: Rotation
    quality: Quality
    suffix: Suffix
    canonical: str

    @property
    def is_plain(self) -> bool:
        """Whether region and size are all that is asked."""
        return self.rotation.is_none and self.quality in ("default", "color")


@dataclass(frozen=True)
class ImageRequest:
    region: Region
    size: Size
    rotation: Rotation
    quality: Quality
    suffix: Suffix

    @classmethod
    def parse(cls, region: str, size: str, rotation: str, quality: str, suffix: str) -> "ImageRequest":
        """Raises BadSyntaxError or UnsupportedError."""
        if quality not in QUALITIES:
            raise BadSyntaxError("quality", f"must be one of {', '.join(QUALITIES)}")
        if suffix in _OTHER_SUFFIXES:
            raise UnsupportedError("format", f"must be one of {', '.join(SUFFIXES)}, not {suffix}")
        if suffix not in SUFFIXES:
            raise BadSyntaxError("format", f"must be one of {', '.join(SUFFIXES)}")
        return cls(Region.parse(region), Size.parse(size), Rotation.parse(rotation), quality, suffix)

    def resolve(self, width: int, height: int, limits: Limits) -> Resolved:
        """The request for a picture of that size.

        Raises:
            BadSyntaxError: the region lies outside, or the size is out of bounds.
        """
        box = self.region.resolve(width, height)
        sides = self.size.resolve(box[2:], limits)
        quality: Quality = "default" if self.quality == "color" else self.quality
        canonical = "/".join(
            (
                regions.canonical(box, width, height),
                sizes.canonical(sides, box[2:], limits),
                str(self.rotation),
                f"{quality}.{self.suffix}",
            )
        )
        return Resolved(box, sides, self.rotation, quality, self.suffix, canonical)
