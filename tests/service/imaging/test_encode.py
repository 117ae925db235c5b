"""Files that any decoder reads, with the pixels that were given."""

import io
import sys
import threading
import time
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError
from model.spec import FORMATS, MAX_SIDES, Encoding, Format, ImageFormat
from service.imaging.deep import dither, encode_deep, to_levels
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


class TestDeepFiles:
    """Files from colours, with more than 8 bits."""

    def colours(self, height: int = 60, width: int = 90) -> NDArray[np.float32]:
        return (smooth_image(height, width) / 127.5 - 1).astype(np.float32) * np.float32(0.97)

    @pytest.mark.parametrize(
        ("image_format", "bits", "quality"),
        [("png", 16, 90), ("tiff", 16, 90), ("tiff", 32, 90), ("npy", 32, 90), ("jxl", 16, 100), ("jxl", 32, 100)],
    )
    def test_lossless(self, image_format: ImageFormat, bits: int, quality: int) -> None:
        colours, encoding = self.colours(), Encoding(image_format, quality, bits=bits)
        found = read_deep(encode_deep(colours, encoding, (0, 0), ""), image_format)
        assert found.dtype == {16: np.uint16, 32: np.float32}[bits]
        if image_format == "npy":
            assert np.array_equal(found, colours)
        else:
            exact = (colours.astype(float) + 1) / 2 * (65535 if bits == 16 else 1)
            assert np.abs(found - exact).max() <= (1 if bits == 16 else 1e-6)

    @pytest.mark.parametrize(("image_format", "bits"), [("avif", 10), ("jxl", 16), ("jxl", 32)])
    def test_lossy(self, image_format: ImageFormat, bits: int) -> None:
        """Nearer to the colours than 8 bits are."""
        colours = self.colours()
        found = read_deep(encode_deep(colours, Encoding(image_format, 99, bits=bits), (0, 0), ""), image_format)
        largest = {10: 1023, 16: 65535, 32: 1}[bits]
        assert np.square(found / largest - (colours.astype(float) + 1) / 2).mean() < 1 / 255**2

    @pytest.mark.parametrize("image_format", ["avif", "jxl"])
    def test_eight_bits(self, image_format: ImageFormat) -> None:
        image = smooth_image()
        found = read_deep(encode(image, Encoding(image_format)), image_format)
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - image).mean() < 2

    def test_crops_agree(self) -> None:
        """The dither depends on the position in the whole image alone."""
        colours, encoding = self.colours(), Encoding("png", bits=16)
        whole = read_deep(encode_deep(colours, encoding, (1000, 50), ""), "png")
        part = read_deep(encode_deep(colours[20:30, 40:70], encoding, (1040, 70), ""), "png")
        assert np.array_equal(part, whole[20:30, 40:70])

    def test_dither_is_even(self) -> None:
        """Levels between two are met by their mean, and neighbours do not depend on each other."""
        noise = dither((200, 300), (7, 9))
        assert noise.mean() == pytest.approx(0.5, abs=0.01)
        assert noise.std() == pytest.approx(12**-0.5, abs=0.01)
        for one, other in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1])):
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02
        constant = np.full((200, 300, 3), 2 * 100.25 / 1023 - 1, np.float32)
        levels = to_levels(constant, 10, (0, 0))
        assert set(np.unique(levels)) == {100, 101}
        assert levels.mean() == pytest.approx(100.25, abs=0.01)

    def test_colours_that_are_none(self) -> None:
        colours = np.array([[[np.nan, -9, 9]]], np.float32)
        assert to_levels(colours, 16, (0, 0)).tolist() == [[[0, 0, 65535]]]

    @pytest.mark.parametrize(
        ("image_format", "bits"), [("jpeg", 16), ("avif", 16), ("tiff", 8), ("npy", 16), ("png", 9)]
    )
    def test_bits_that_a_format_has_not(self, image_format: ImageFormat, bits: int) -> None:
        with pytest.raises(InputError) as caught:
            Encoding(image_format, bits=bits)
        assert caught.value.field == "bits"


def read_deep(content: bytes, image_format: ImageFormat) -> NDArray[Any]:
    decoders: dict[str, Any] = {"png": imagecodecs.png_decode, "avif": imagecodecs.avif_decode}
    decoders |= {"jxl": imagecodecs.jpegxl_decode, "npy": lambda data: np.load(io.BytesIO(data))}
    decoders["tiff"] = lambda data: tifffile.imread(io.BytesIO(data))
    found: NDArray[Any] = decoders[image_format](content)
    return found
