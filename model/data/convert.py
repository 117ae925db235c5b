"""Conversion of images of any kind to square PNGs of one size, on all cores."""

import io
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image, ImageOps

from model.data.archive import Archive
from model.data.images import open_image, reason, to_srgb


def convert(content: bytes, resolution: int, background: str, pad: bool = False) -> bytes:
    """Convert an image file to a PNG of its centred square, upright, in 8-bit RGB, without metadata.

    Args:
        background: colour behind transparency.
        pad: take the whole image instead, with the background on two sides.

    Raises:
        Exception: the image cannot be read; decoders raise errors of any type.
    """
    with open_image(io.BytesIO(content)) as file:
        ImageOps.exif_transpose(file, in_place=True)
        image = to_srgb(file)
    if pad:
        square = ImageOps.pad(image.convert("RGBA"), (resolution, resolution), Image.Resampling.LANCZOS, (0, 0, 0, 0))
    else:
        side = min(image.size)
        # Whole pixels: a shift by half a pixel would blur images that need no resizing.
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        square = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    if square.mode == "RGBA":
        square = Image.alpha_composite(Image.new("RGBA", square.size, background), square).convert("RGB")
    buffer = io.BytesIO()
    square.save(buffer, "PNG", icc_profile=None)
    return buffer.getvalue()


def convert_all(
    archive: Archive, names: Sequence[str], resolution: int, background: str, pad: bool, workers: int
) -> Generator[tuple[str, bytes | str], None, None]:
    """Yield each name with its PNG or with the reason for which it has none, in order.

    Uses threads, because Pillow releases the GIL while it decodes, resizes and encodes. At most two images per worker
    are in memory.
    """

    def attempt(name: str) -> bytes | str:
        try:
            return convert(archive.read(name), resolution, background, pad)
        except Exception as error:
            return reason(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # about metadata; too large images are errors here
        pending: deque[tuple[str, Future[bytes | str]]] = deque()
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
