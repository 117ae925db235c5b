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

Metadata = Literal["full", "none"]

DEFAULT_QUALITY = 90

MAX_SIDES: dict[Format, int] = {"png": 1_000_000, "jpeg": 65_500, "webp": 16_382}
"""Longest side in pixels that a format or its encoder supports."""


@dataclass(frozen=True)
class Encoding:
    """File format of an image. ``quality`` 1 … 100 is for jpeg and webp; png is lossless.

    ``metadata`` "full" adds the spec to the file, so that it tells how it was made.
    """

    format: Format = "png"
    quality: int = DEFAULT_QUALITY
    metadata: Metadata = "full"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise InputError("format", f"must be one of {', '.join(FORMATS)}, not {self.format!r}")
        if not 1 <= self.quality <= 100:
            raise InputError("quality", f"must be from 1 to 100, not {self.quality}")
        if self.metadata not in get_args(Metadata):
            raise InputError("metadata", f"must be full or none, not {self.metadata!r}")
        if self.format == "png":  # equal bytes have one key
            object.__setattr__(self, "quality", DEFAULT_QUALITY)

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
            "encoding": self.encoding,
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
