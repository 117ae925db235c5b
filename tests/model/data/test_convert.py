"""One image on its way into a data set: which part of it is seen, in which colours and which way up."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.data.convert import convert
from model.data.jpegxl import read_jpegxl


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
def test_an_image_of_the_right_height_is_only_cropped(longer: int, upright: bool, seed: int) -> None:
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
def test_every_kind_of_image_comes_in_its_colours(
    tmp_path: Path, name: str, image: Callable[[], Image.Image], colour: tuple[int, int, int]
) -> None:
    image().save(tmp_path / name)
    pixels = _converted((tmp_path / name).read_bytes(), background="blue")
    assert np.abs(pixels.astype(int) - colour).max() <= 1


def _tiff(path: Path, level: int, **options: Any) -> bytes:
    tifffile.imwrite(path, np.full((16, 16), level, np.uint16), **options)
    return path.read_bytes()


def test_greys_of_tiff_keep_their_range(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert (_converted(_tiff(path, 4095, photometric="minisblack", bitspersample=12)) == 255).all()
    assert (_converted(_tiff(path, 1445, photometric="minisblack", bitspersample=12)) == 90).all()
    assert (_converted(_tiff(path, 65535, photometric="miniswhite")) == 0).all()
    assert (_converted(_tiff(path, 65535 - 90 * 257, photometric="miniswhite")) == 90).all()


def _png_with_transparent_colour(depth: int, channels: int, samples: int, colour: bytes) -> bytes:
    """16×16 equal pixels of ``samples`` bits each, with a tRNS chunk."""
    header = struct.pack(">IIBBBBB", 16, 16, depth, 2 if channels == 3 else 0, 0, 0, 0)
    row = (samples.to_bytes(2 * channels) if depth == 16 else bytes([samples])) * (16 if depth == 16 else 2 * depth)
    content = b"\x89PNG\r\n\x1a\n"
    parts = {b"IHDR": header, b"tRNS": colour, b"IDAT": zlib.compress((b"\0" + row) * 16), b"IEND": b""}
    for kind, part in parts.items():
        content += struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
    return content


@pytest.mark.parametrize(
    ("depth", "channels", "samples", "colour", "shown"),
    [
        (16, 1, 1000, struct.pack(">H", 1000), (0, 0, 255)),
        (16, 1, 90 * 257, struct.pack(">H", 90), GREY),
        (8, 1, 90, struct.pack(">H", 90), (0, 0, 255)),
        (4, 1, 0x33, struct.pack(">H", 3), (0, 0, 255)),
        (2, 1, 0xFF, struct.pack(">H", 3), (0, 0, 255)),
        (2, 1, 0xFF, struct.pack(">H", 2), (255, 255, 255)),
        (16, 3, 0x1234_2345_3456, struct.pack(">3H", 0x1234, 0x2345, 0x3456), (0, 0, 255)),
    ],
)
def test_a_transparent_colour_of_png_is_transparent(
    depth: int, channels: int, samples: int, colour: bytes, shown: tuple[int, int, int]
) -> None:
    pixels = _converted(_png_with_transparent_colour(depth, channels, samples, colour), background="blue")
    assert (pixels == shown).all()


D65 = [0.3127, 0.3290, 1.0]
P3_PRIMARIES = [0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1]
PROFILES = {  # by name, since they hold the time at which they were made, which no name of a test may
    "display p3": imagecodecs.cms_profile("rgb", whitepoint=D65, primaries=P3_PRIMARIES, gamma=2.2),
    "linear grey": imagecodecs.cms_profile("gray", whitepoint=D65, gamma=1.0),
    "damaged": b"damaged",
}


@pytest.mark.parametrize(
    ("name", "mode", "colour", "profile", "expected"),
    [
        ("a.png", "RGB", BROWN, "display p3", (216, 92, 24)),
        ("a.webp", "RGB", BROWN, "display p3", (216, 92, 24)),
        ("a.tif", "RGB", BROWN, "display p3", (216, 92, 24)),
        ("a.png", "RGBA", (*BROWN, 255), "display p3", (216, 92, 24)),
        ("a.png", "RGBA", (*BROWN, 0), "display p3", (0, 0, 255)),
        ("a.png", "L", 90, "linear grey", (160, 160, 160)),
        ("a.png", "LA", (90, 255), "linear grey", (160, 160, 160)),
        ("a.png", "I;16", 90 * 257, "linear grey", (160, 160, 160)),
        ("a.png", "L", 90, "display p3", GREY),  # a profile of other samples
        ("a.png", "RGB", BROWN, "damaged", BROWN),
    ],
)
def test_colour_profiles_are_applied(
    tmp_path: Path, name: str, mode: str, colour: int | tuple[int, ...], profile: str, expected: tuple[int, ...]
) -> None:
    _image(mode, colour).save(tmp_path / name, icc_profile=PROFILES[profile], lossless=True)
    pixels = _converted((tmp_path / name).read_bytes(), background="blue")
    assert np.abs(pixels.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("colour", "dtype", "expected"),
    [
        (BROWN, np.uint8, BROWN),
        ([value * 257 for value in BROWN], np.uint16, BROWN),
        ([value / 255 for value in BROWN], np.float32, BROWN),
        ((*BROWN, 0), np.uint8, (0, 0, 255)),
        ([90], np.uint8, GREY),
        ([90, 255], np.uint8, GREY),
    ],
)
def test_jpeg_xl_is_read(colour: Any, dtype: type[np.generic], expected: tuple[int, ...]) -> None:
    pixels = np.full((16, 24, len(colour)), colour, dtype)
    for container in (False, True):
        content = imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=container)
        assert np.abs(_converted(bytes(content), background="blue").astype(int) - expected).max() <= 1


@given(width=st.integers(1, 700), height=st.integers(1, 700))
def test_a_jpeg_xl_image_of_any_size_is_measured_before_it_is_decoded(width: int, height: int) -> None:
    content = imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8), effort=1)
    assert read_jpegxl(io.BytesIO(content), width * height).size == (width, height)
    with pytest.raises(Image.DecompressionBombError):
        read_jpegxl(io.BytesIO(content), width * height - 1)


def test_photoshop_files_are_read() -> None:
    channels = b"".join(bytes([value]) * 256 for value in BROWN)
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 16, 16, 8, 3)
    assert (_converted(header + bytes(12) + b"\0\0" + channels) == BROWN).all()


def test_of_an_animation_the_first_image_is_taken(tmp_path: Path) -> None:
    first, second = _image("RGB", RED), _image("RGB", (0, 0, 255))
    for name in ("a.gif", "a.webp", "a.png", "a.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert np.abs(_converted((tmp_path / name).read_bytes()).astype(int) - RED).max() <= 2, name


def test_an_image_is_turned_as_the_camera_was_held(tmp_path: Path) -> None:
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
