"""RenderSpec: a frozen value that determines an image completely.

It is parsed once from a request, queued, hashed for caches and passed to the renderer.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import msgspec

from model.errors import InputError
from model.latents.latent import Latent
from model.viewport import Viewport

Format = Literal["png", "jpeg", "webp"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""What every route offers, tiles and sheets too."""

ImageFormat = Literal["png", "jpeg", "webp", "avif", "jxl", "tiff", "npy"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
"""What single images can be."""

BITS: dict[ImageFormat, tuple[int, ...]] = {
    "png": (8, 16),
    "jpeg": (8,),
    "webp": (8,),
    "avif": (8, 10),
    "jxl": (8, 16, 32),
    "tiff": (16, 32),
    "npy": (32,),
}
"""Bits of a number, the default first. 32 are float32."""

LOSSLESS: tuple[ImageFormat, ...] = ("png", "tiff", "npy")

Metadata = Literal["full", "none"]

DEFAULT_QUALITY = 90

MAX_SIDES: dict[ImageFormat, int] = {
    "png": 1_000_000,
    "jpeg": 65_500,
    "webp": 16_382,
    "avif": 65_536,
    "jxl": 1_000_000,
    "tiff": 1_000_000,
    "npy": 1_000_000,
}
"""Longest side in pixels that a format or its encoder supports."""


@dataclass(frozen=True)
class Encoding:
    """File format of an image.

    Attributes:
        quality: 1 … 100, of formats that are not LOSSLESS; 100 is lossless for jxl.
        metadata: "full" adds the spec to the file, so that it tells how it was made.
        bits: of a number, one of BITS; 0 is replaced by the format's default. Above 8 they are made from the network's
            colours, not from 8 bits.
    """

    format: ImageFormat = "png"
    quality: int = DEFAULT_QUALITY
    metadata: Metadata = "full"
    bits: int = 0

    def __post_init__(self) -> None:
        if self.format not in IMAGE_FORMATS:
            raise InputError("format", f"must be one of {', '.join(IMAGE_FORMATS)}, not {self.format!r}")
        if self.bits == 0:
            object.__setattr__(self, "bits", BITS[self.format][0])
        if self.bits not in BITS[self.format]:
            allowed = " or ".join(map(str, BITS[self.format]))
            raise InputError("bits", f"of {self.format} must be {allowed}, not {self.bits}")
        if not 1 <= self.quality <= 100:
            raise InputError("quality", f"must be from 1 to 100, not {self.quality}")
        if self.metadata not in get_args(Metadata):
            raise InputError("metadata", f"must be full or none, not {self.metadata!r}")
        if self.format in LOSSLESS:  # equal bytes have one key
            object.__setattr__(self, "quality", DEFAULT_QUALITY)

    @property
    def is_deep(self) -> bool:
        """Whether the file is made from colours as float32, not from 8-bit levels."""
        return self.bits > 8

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values; without the format's default of bits, so that keys of images stay what they were."""
        values = {"format": self.format, "quality": self.quality, "metadata": self.metadata}
        return values if self.bits == BITS[self.format][0] else values | {"bits": self.bits}

    def require_common(self) -> None:
        """Raise InputError for a format that only single images can have."""
        if self.format not in FORMATS:
            raise InputError("format", f"must be one of {', '.join(FORMATS)}, not {self.format}")
        if self.is_deep:
            raise InputError("bits", f"must be 8, not {self.bits}")

    def check_size(self, width: int, height: int) -> None:
        """Raise InputError if the format does not support images of this size."""
        limit = MAX_SIDES[self.format]
        for field, side in (("width", width), ("height", height)):
            if side > limit:
                raise InputError(field, f"of a {self.format} image must be at most {limit} pixels, not {side}")


@dataclass(frozen=True)
class RenderSpec:
    """An image: the model, its input, the viewport and the file format.

    ``model`` is a checkpoint's name, or its digest once resolved. Only a resolved spec determines the bytes for ever.
    """

    model: str
    latent: Latent
    viewport: Viewport
    encoding: Encoding = Encoding()

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        return self._json

    @cached_property
    def _json(self) -> str:
        values = {
            "model": self.model,
            "latent": self.latent.to_dict(),
            "viewport": self.viewport.to_dict(),
            "encoding": self.encoding.to_dict(),
        }
        return msgspec.json.encode(values, order="sorted").decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "RenderSpec":
        """Inverse of :meth:`to_json`, for trusted text."""
        values: dict[str, Any] = json.loads(text)
        latent, viewport = Latent.from_dict(values["latent"]), Viewport.from_dict(values["viewport"])
        return cls(values["model"], latent, viewport, Encoding(**values["encoding"]))

    @cached_property
    def key(self) -> str:
        """64 hex digits that identify this image in caches and ETags."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
