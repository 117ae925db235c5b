"""One picture on its way into a data set: which part of it is seen, in which colours and which way up."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.training.convert import convert


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _converted(content: bytes, resolution: int = 8, background: str = "white") -> np.ndarray[tuple[int, ...], np.dtype]:
    with Image.open(io.BytesIO(convert(content, resolution, background))) as image:
        assert image.mode == "RGB"
        assert image.size == (resolution, resolution)
        return np.asarray(image)


@given(width=st.integers(1, 40), height=st.integers(1, 40))
def test_only_the_centred_square_is_seen(width: int, height: int) -> None:
    """It is red and all around it is white: one white pixel within would show, and so would a pixel's shift."""
    side = min(width, height)
    pixels = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = (255, 0, 0)
    assert (_converted(_png(Image.fromarray(pixels))) == (255, 0, 0)).all()


@given(longer=st.integers(8, 40), upright=st.booleans(), seed=st.integers(0, 9))
def test_a_picture_of_the_right_height_is_only_cropped(longer: int, upright: bool, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, longer, 3), dtype=np.uint8)
    start = (longer - 8) // 2
    expected = pixels[:, start : start + 8]
    if upright:
        pixels, expected = (np.ascontiguousarray(array.transpose(1, 0, 2)) for array in (pixels, expected))
    assert (_converted(_png(Image.fromarray(pixels))) == expected).all()


def test_fine_detail_is_averaged_not_sampled() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(_converted(_png(Image.fromarray(stripes)))[:, 1:-1].astype(int) - 127).max() <= 8


def _image(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (16, 16), colour)


def _grey16(level: int) -> Image.Image:
    return Image.fromarray(np.full((16, 16), level, np.uint16))


def _palette(transparency: bytes) -> Image.Image:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    if transparency:
        image.info["transparency"] = transparency
    return image


GREY, RED, BROWN = (90, 90, 90), (255, 0, 0), (200, 100, 50)


@pytest.mark.parametrize(
    ("name", "image", "colour"),
    [
        ("grey.png", lambda: _image("L", 90), GREY),
        ("grey.jpg", lambda: _image("L", 90), GREY),
        ("bits.png", lambda: _image("1", 1), (255, 255, 255)),
        ("grey16.png", lambda: _grey16(90 * 257), GREY),
        ("white16.png", lambda: _grey16(65535), (255, 255, 255)),
        ("grey16.tif", lambda: _grey16(90 * 257), GREY),
        ("grey16.pgm", lambda: _grey16(90 * 257), GREY),
        ("grey16.jp2", lambda: _grey16(90 * 257), GREY),
        ("palette.png", lambda: _palette(b""), BROWN),
        ("palette.gif", lambda: _palette(b""), BROWN),
        ("clear-palette.png", lambda: _palette(b"\xff\x00"), (0, 0, 255)),
        ("half-palette.png", lambda: _palette(b"\xff\x80"), (100, 50, 152)),
        ("alpha.png", lambda: _image("RGBA", (200, 100, 50, 128)), (100, 50, 152)),
        ("grey-alpha.png", lambda: _image("LA", (90, 0)), (0, 0, 255)),
        ("cmyk.tif", lambda: _image("CMYK", (0, 255, 255, 0)), RED),
        ("cmyk.jpg", lambda: _image("CMYK", (0, 255, 255, 0)), (254, 0, 0)),
        ("colour.bmp", lambda: _image("RGB", BROWN), BROWN),
        ("colour.webp", lambda: _image("RGB", RED), (254, 0, 0)),
    ],
)
def test_every_kind_of_picture_comes_in_its_colours(
    tmp_path: Path, name: str, image: Callable[[], Image.Image], colour: tuple[int, int, int]
) -> None:
    image().save(tmp_path / name)
    pixels = _converted((tmp_path / name).read_bytes(), background="blue")
    assert np.abs(pixels.astype(int) - colour).max() <= 1


def test_of_an_animation_the_first_picture_is_taken(tmp_path: Path) -> None:
    first, second = _image("RGB", RED), _image("RGB", (0, 0, 255))
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert np.abs(_converted((tmp_path / name).read_bytes()).astype(int) - RED).max() <= 2, name


def test_a_picture_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter: what was above is at the right
    for name in ("a.png", "a.jpg", "a.webp", "a.tif"):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif, quality=100)
        turned = _converted((tmp_path / name).read_bytes(), 16).astype(int)
        assert turned[:, 9:, 0].min() > 245, name
        assert turned[:, :7, 0].max() < 10, name


def test_nothing_but_pixels_is_kept() -> None:
    buffer = io.BytesIO()
    _image("RGB", RED).save(buffer, "PNG", icc_profile=b"profile" * 1000, dpi=(300, 300))
    with Image.open(io.BytesIO(convert(buffer.getvalue(), 8, "white"))) as image:
        image.load()
        assert image.info == {}
