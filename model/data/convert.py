"""Conversion of images of any kind to square PNGs, of one size or at their own, on all cores."""

import io
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from PIL import Image, ImageOps

from model.data.archive import Archive
from model.data.images import open_image, reason, to_srgb
from model.data.labels import MAX_SIDE
from model.data.pyramid import cut_levels

T = TypeVar("T")

Files = dict[str, bytes]
"""PNGs of an image by the end of their names: ".png", and those of larger levels."""


def convert(content: bytes, resolution: int, background: str, pad: bool = False) -> bytes:
    """Convert an image file to a PNG of its centred square, upright, in 8-bit RGB, without metadata.

    Args:
        background: colour behind transparency.
        pad: take the whole image instead, with the background on two sides.

    Raises:
        Exception: the image cannot be read; decoders raise errors of any type.
    """
    return _encode(_read_square(content, resolution, background, pad))


def convert_at_own_size(content: bytes, resolution: int, background: str, pad: bool = False) -> tuple[int, Files]:
    """As :func:`convert`, but at the square's own size: its side, and its levels in tiles (model/data/pyramid.py).

    Raises:
        Exception: as :func:`convert`, or the square has fewer than ``resolution`` pixels a side.
    """
    square = _read_square(content, None, background, pad)
    if square.width < resolution:
        raise ValueError(f"its square is {square.width}×{square.width}, smaller than {resolution}×{resolution}")
    return square.width, {tile.name: _encode(image) for tile, image in cut_levels(square)}


def _read_square(content: bytes, side: int | None, background: str, pad: bool) -> Image.Image:
    """The image's square in RGB with ``side`` pixels a side; None keeps its own size."""
    with open_image(io.BytesIO(content)) as file:
        ImageOps.exif_transpose(file, in_place=True)
        image = to_srgb(file)
    if pad:
        side = side or max(image.size)
        if side > MAX_SIDE:
            raise ValueError(f"its square has {side} pixels a side, more than {MAX_SIDE}")
        square = ImageOps.pad(image.convert("RGBA"), (side, side), Image.Resampling.LANCZOS, (0, 0, 0, 0))
    else:
        shorter = min(image.size)
        # Whole pixels: a shift by half a pixel would blur images that need no resizing.
        left, top = (image.width - shorter) // 2, (image.height - shorter) // 2
        square = image.crop((left, top, left + shorter, top + shorter))
        square = square.resize((side or shorter, side or shorter), Image.Resampling.LANCZOS)
    if square.mode == "RGBA":
        square = Image.alpha_composite(Image.new("RGBA", square.size, background), square).convert("RGB")
    return square


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=None)
    return buffer.getvalue()


def convert_all(
    archive: Archive, names: Sequence[str], convert: Callable[[bytes], T], workers: int
) -> Generator[tuple[str, T | str], None, None]:
    """Yield each name with its converted image or with the reason for which it has none, in order.

    Uses threads, because Pillow releases the GIL while it decodes, resizes and encodes. At most two images per worker
    are in memory.
    """

    def attempt(name: str) -> T | str:
        try:
            return convert(archive.read(name))
        except Exception as error:
            return reason(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about metadata; too large images are errors here
        pending: deque[tuple[str, Future[T | str]]] = deque()
        try:
            for name in names:
                if len(pending) == 2 * workers:
                    first, future = pending.popleft()
                    yield first, future.result()
                pending.append((name, pool.submit(attempt, name)))
            for first, future in pending:
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
