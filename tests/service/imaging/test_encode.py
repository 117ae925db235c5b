"""Files that any decoder reads, with the pixels that were given."""

import io
import sys
import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError
from model.spec import FORMATS, MAX_SIDES, Encoding, Format
from service.imaging.encode import encode


def smooth_image(height: int = 120, width: int = 200) -> NDArray[np.uint8]:
    y, x, channel = np.ogrid[:height, :width, :3]
    waves = 127 + 120 * np.sin(x / 17 + channel) * np.cos(y / 23 - channel)
    return np.asarray(waves, dtype=np.uint8)


def decode(content: bytes) -> tuple[NDArray[np.int_], Image.Image]:
    image = Image.open(io.BytesIO(content))
    image.load()
    assert image.mode == "RGB"
    return np.asarray(image, dtype=int), image


def test_png_keeps_every_pixel() -> None:
    image = smooth_image()
    decoded, file = decode(encode(image, Encoding("png")))
    assert file.format == "PNG"
    assert np.array_equal(decoded, image)


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_quality_trades_size_for_fidelity(image_format: Format) -> None:
    image = smooth_image()
    sizes, errors = [], []
    for quality in (10, 60, 95):
        content = encode(image, Encoding(image_format, quality))
        decoded, file = decode(content)
        assert file.format == image_format.upper()
        sizes.append(len(content))
        errors.append(np.abs(decoded - image).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 3


@pytest.mark.parametrize(("quality", "sampling"), [(89, (2, 2)), (90, (1, 1))])
def test_jpeg_chroma(quality: int, sampling: tuple[int, int]) -> None:
    content = encode(smooth_image(), Encoding("jpeg", quality))
    frame = content.index(b"\xff\xc0")  # start of frame: … components of (id, sampling, table)
    assert content[frame + 9] == 3
    assert divmod(content[frame + 11], 16) == sampling


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (17, 33)])
def test_any_shape_and_layout_gives_the_same_file(image_format: Format, shape: tuple[int, int]) -> None:
    image = smooth_image()
    view = image[5 : 5 + shape[0], 3 : 3 + shape[1]]
    content = encode(view, Encoding(image_format))
    assert content == encode(view.copy(), Encoding(image_format))
    assert decode(content)[0].shape == (*shape, 3)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("field", ["width", "height"])
def test_sides(image_format: Format, field: str) -> None:
    limit = MAX_SIDES[image_format]
    shape = (1, limit) if field == "width" else (limit, 1)
    image = np.zeros((*shape, 3), np.uint8)
    if image_format != "png":  # Pillow takes a million pixels in a row for an attack
        assert decode(encode(image, Encoding(image_format)))[0].shape[:2] == shape
    longer = np.zeros((shape[0] + (field == "height"), shape[1] + (field == "width"), 3), np.uint8)
    with pytest.raises(InputError, match=str(limit)) as caught:
        encode(longer, Encoding(image_format))
    assert caught.value.field == field


@pytest.mark.parametrize("image_format", FORMATS)
def test_encoders_run_without_the_gil(image_format: Format) -> None:
    """A thread that waits for the GIL, and cannot take it by force, gets it before the encoder ends."""
    image = np.tile(smooth_image(500, 500), (4, 4, 1))
    # The system may not run the waiting thread before the encoder ends. Once of many times is enough: an encoder that
    # holds the GIL never lets it go on.
    assert any(resumes_before_the_end(image, Encoding(image_format)) for _ in range(20))


def resumes_before_the_end(image: NDArray[np.uint8], encoding: Encoding) -> bool:
    started = threading.Event()
    ended: list[float] = []

    def work() -> None:
        started.set()
        encode(image, encoding)
        ended.append(time.perf_counter())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        resumed = time.perf_counter()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    return resumed < ended[0]
