"""Which part of the picture is asked for (section 4.1)."""

from dataclasses import dataclass
from typing import Literal

from service.iiif.errors import BadSyntaxError
from service.iiif.numbers import decimal, whole

Box = tuple[int, int, int, int]
"""x, y, w, h in pixels of the whole picture."""


@dataclass(frozen=True)
class Region:
    """``full``, ``square``, ``x,y,w,h`` in pixels, or ``pct:x,y,w,h`` in percent of the sides."""

    kind: Literal["full", "square", "pixels", "percent"]
    values: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Raises BadSyntaxError."""
        if text == "full":
            return cls("full")
        if text == "square":
            return cls("square")
        percent = text.startswith("pct:")
        parts = text.removeprefix("pct:").split(",")
        values = [decimal(part) if percent else whole(part) for part in parts]
        if len(values) != 4 or None in values:
            raise BadSyntaxError("region", "must be full, square, x,y,w,h or pct:x,y,w,h")
        return cls("percent" if percent else "pixels", tuple(value for value in values if value is not None))

    def resolve(self, width: int, height: int) -> Box:
        """The region inside a picture of that size: what lies beyond its edges is cut off.

        Raises:
            BadSyntaxError: nothing is left.
        """
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
            raise BadSyntaxError("region", f"must overlap the picture of {width}×{height} pixels")
        left, top = min(round(x), width - 1), min(round(y), height - 1)
        right, bottom = max(round(x + w), left + 1), max(round(y + h), top + 1)
        return left, top, min(right, width) - left, min(bottom, height) - top


def canonical(box: Box, width: int, height: int) -> str:
    """The region in its canonical form (section 4.7)."""
    return "full" if box == (0, 0, width, height) else ",".join(map(str, box))
