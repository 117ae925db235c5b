"""The picture that a projection looks for."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.data.images import MAX_IMAGE_PIXELS, open_image, reason, to_srgb
from model.errors import InputError
from model.viewport import Viewport

MIN_SIDE = 8
"""Shortest side of a picture: fewer pixels do not determine a latent."""

MAX_SIDE = 512
"""Longest side in use. Larger pictures are averaged down to it."""

MAX_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Target:
    """A picture.

    Attributes:
        image: float32 [3, H, W], −1 … 1.
        known: float32 [H, W], 1 where the picture is known and 0 where it is to be filled in.
    """

    image: NDArray[np.float32]
    known: NDArray[np.float32]

    @property
    def viewport(self) -> Viewport:
        """What the picture shows: the largest centred window of its aspect."""
        return Viewport.resolve(self.image.shape[2], self.image.shape[1])


def read_target(picture: Path, mask: Path | None = None) -> Target:
    """Read a picture and a mask, white where the picture is known. Raises InputError for either, or OSError."""
    content = _read(picture, "picture")
    return parse_target(content, None if mask is None else _read(mask, "mask"))


def parse_target(picture: bytes, mask: bytes | None = None) -> Target:
    """As :func:`read_target`, from the contents of the files. Transparent pixels are not known, either."""
    image = _open(picture, "picture")
    if min(image.size) < MIN_SIDE:
        raise InputError("picture", f"must have at least {MIN_SIDE} pixels a side, not {image.width}×{image.height}")
    alpha = image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, 255)
    if mask is not None:
        given = _open(mask, "mask").convert("L")
        if given.size != image.size:
            sizes = f"{image.width}×{image.height} pixels, not {given.width}×{given.height}"
            raise InputError("mask", f"must have the picture's {sizes}")
        alpha = Image.fromarray(np.minimum(np.asarray(alpha), np.asarray(given)))
    scale = min(1.0, MAX_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), np.float32)  # [H, W, 3]
    known = (np.asarray(alpha.resize(size, Image.Resampling.BOX)) >= 128).astype(np.float32)
    if known.sum() < MIN_SIDE**2:
        raise InputError("mask", f"must leave at least {MIN_SIDE**2} pixels known")
    levels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return Target((levels - 127.5) / 127.5, known)  # centres of the levels, which are truncated


def _read(path: Path, field: str) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(field, f"must be a file of at most {MAX_BYTES} bytes")
    return content


def _open(content: bytes, field: str) -> Image.Image:
    """An untrusted image, upright, as sRGB."""
    try:
        image = open_image(io.BytesIO(content))
        if image.width * image.height > MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        ImageOps.exif_transpose(image, in_place=True)
        return to_srgb(image)
    except Exception as error:  # decoders raise errors of any type
        raise InputError(field, f"cannot be read: {reason(error)}") from None
