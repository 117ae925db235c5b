"""How the scaled region is turned (section 4.3)."""

from dataclasses import dataclass

from service.iiif.errors import BadSyntaxError, UnsupportedError
from service.iiif.numbers import decimal, written


@dataclass(frozen=True)
class Rotation:
    """Mirrored at the vertical axis, perhaps, then turned clockwise by ``degrees``."""

    degrees: float
    mirrored: bool

    @classmethod
    def parse(cls, text: str) -> "Rotation":
        """``n`` or ``!n``.

        Raises:
            BadSyntaxError: it is none, or not from 0 to 360. UnsupportedError: it is no multiple of 90.
        """
        degrees = decimal(text.removeprefix("!"))
        if degrees is None or not 0 <= degrees <= 360:
            raise BadSyntaxError("rotation", "must be n or !n, with n from 0 to 360")
        if degrees % 90:
            raise UnsupportedError("rotation", f"by multiples of 90 degrees alone is supported, not by {degrees:g}")
        return cls(degrees % 360, text.startswith("!"))

    def __str__(self) -> str:
        """The canonical form."""
        return f"{'!' if self.mirrored else ''}{written(self.degrees)}"

    @property
    def is_none(self) -> bool:
        """Whether it leaves a picture as it is."""
        return not self.degrees and not self.mirrored
