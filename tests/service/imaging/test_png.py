"""The PNG that is written as a stream: any size, in any pieces."""

import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.util.measuring import in_own_process, peak_memory
from service.imaging import png
from service.imaging.png import write_png

POOL = ThreadPoolExecutor(3)


def write(image: NDArray[Any], heights: list[int], piece_bytes: int) -> bytes:
    """The file of a picture that comes in bands of these heights, all in the same memory, as finish has them."""
    file = io.BytesIO()

    def bands() -> Iterator[NDArray[Any]]:
        memory = np.empty((max(heights), *image.shape[1:]), image.dtype)
        top = 0
        for height in heights:
            memory[:height] = image[top : top + height]
            yield memory[:height]
            top += height

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "PIECE_BYTES", piece_bytes)
        write_png(image.shape[1], image.shape[0], bands(), file.write, POOL, bits=8 * image.itemsize)
    return file.getvalue()


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents; their checksums are right."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        name, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", content, at + 8 + length)[0] == zlib.crc32(name + body)
        yield name, body
        at += 12 + length


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 90),
    st.integers(1, 5000),
    st.sampled_from([0, 1, 256]),
    st.integers(0, 2**32 - 1),
)
def test_every_pixel_of_any_image_in_any_pieces(
    heights: list[int], width: int, piece_bytes: int, values: int, seed: int
) -> None:
    """Of zeros, of one step of 1 and 0, of noise."""
    image = np.random.default_rng(seed).integers(0, max(values, 1), (sum(heights), width, 3), np.uint8, endpoint=False)
    image[sum(heights) // 2 :] ^= values == 1
    content = write(image, heights, piece_bytes)
    with Image.open(io.BytesIO(content)) as read:
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), image)
    found = list(chunks(content))
    assert [name for name, _ in found if name != b"IDAT"] == [b"IHDR", b"IEND"]
    decompressor = zlib.decompressobj()  # compares the checksum of all pieces, which Pillow does not
    scanlines = decompressor.decompress(b"".join(body for name, body in found if name == b"IDAT"))
    assert decompressor.eof
    assert decompressor.unused_data == b""
    assert len(scanlines) == image.shape[0] * (3 * width + 1)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 90), st.integers(1, 5000))
def test_sixteen_bits(heights: list[int], width: int, piece_bytes: int) -> None:
    image = np.random.default_rng(width).integers(0, 2**16, (sum(heights), width, 3), np.uint16)
    assert np.array_equal(imagecodecs.png_decode(write(image, heights, piece_bytes)), image)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 90), st.integers(1, 5000))
def test_bands_change_no_byte(heights: list[int], width: int, piece_bytes: int) -> None:
    image = np.random.default_rng(width).integers(0, 4, (sum(heights), width, 3), np.uint8)
    assert write(image, heights, piece_bytes) == write(image, [sum(heights)], piece_bytes)


SIDE, BAND = 20_000, 512


def write_large_image() -> tuple[int, int]:
    """(bytes written, bytes of memory) of a picture of 1.2 GB."""
    written = 0
    band = np.zeros((BAND, SIDE, 3), np.uint8)
    band[:64] = np.random.default_rng(0).integers(0, 256, (64, SIDE, 3), np.uint8)

    def write(content: bytes) -> None:
        nonlocal written
        written += len(content)

    bands = (band[: min(BAND, SIDE - top)] for top in range(0, SIDE, BAND))
    with ThreadPoolExecutor(2) as pool:
        write_png(SIDE, SIDE, bands, write, pool)
    return written, peak_memory(torch.device("cpu"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_image() -> None:
    written, peak = in_own_process("a PNG of 20,000²", write_large_image)
    assert written > 100e6
    assert peak < 400e6
