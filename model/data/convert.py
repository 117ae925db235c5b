"""Pictures of any kind → square PNGs of one size, on all cores."""

import io
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from PIL import Image, ImageOps

from model.training.archive import Archive
from model.training.decoding import open_picture, reason, to_8_bits


def convert(content: bytes, resolution: int, background: str) -> bytes:
    """The centred square of a picture, upright, at R² in 8-bit RGB, as a PNG without metadata.

    Raises:
        Exception: it cannot be read; decoders raise whatever comes to them.
    """
    with open_picture(io.BytesIO(content)) as file:
        ImageOps.exif_transpose(file, in_place=True)
        side = min(file.size)
        # Whole pixels: half a pixel's shift would blur what is otherwise left as it is.
        left, top = (file.width - side) // 2, (file.height - side) // 2
        square = to_8_bits(file).crop((left, top, left + side, top + side))
    square = square.convert("RGBA" if square.has_transparency_data else "RGB")
    square = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    if square.mode == "RGBA":
        square = Image.alpha_composite(Image.new("RGBA", square.size, background), square).convert("RGB")
    buffer = io.BytesIO()
    square.save(buffer, "PNG", icc_profile=None)
    return buffer.getvalue()


def convert_all(
    archive: Archive, names: Sequence[str], resolution: int, background: str, workers: int
) -> Generator[tuple[str, bytes | str], None, None]:
    """Each name with its PNG, or with the reason why there is none, in their order.

    Threads serve as well as processes, since Pillow leaves Python's lock alone while it decodes, resizes and encodes.
    At most two pictures a worker are in memory.
    """

    def attempt(name: str) -> bytes | str:
        try:
            return convert(archive.read(name), resolution, background)
        except Exception as error:
            return reason(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # of doubtful metadata; what is too large is an error here
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
