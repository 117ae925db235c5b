"""Animated PNG and WebP files from images that are encoded on their own."""

import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from model.spec import Encoding
from service.imaging.encode import encode
from service.imaging.png import SIGNATURE, png_chunk

Animated = Literal["apng", "webp"]

_ENCODINGS: dict[Animated, Encoding] = {"apng": Encoding("png"), "webp": Encoding("webp")}

_SOURCE, _NONE = 0, 0
"""APNG: a frame replaces the one before; nothing is done after it."""

_NO_BLENDING = 0b10
"""WebP: a frame replaces the one before."""


class GroupWriter:
    """Writes the frames [H, W, 3] of a group as image files, each behind its length."""

    def __init__(self, kind: Animated, file: IO[bytes]) -> None:
        self._encoding = _ENCODINGS[kind]
        self._file = file

    def write(self, image: NDArray[np.uint8]) -> None:
        content = encode(image, self._encoding)
        self._file.write(struct.pack(">I", len(content)) + content)

    def close(self) -> None:
        """The file is complete, and stays open."""


def join(kind: Animated, groups: Iterable[bytes], file: IO[bytes], fps: float, frames: int) -> None:
    """Write the groups as one file with so many frames, which repeats for ever. Only one group is held at a time."""
    images = (image for group in groups for image in _images(group))
    if kind == "apng":
        _write_apng(images, file, fps, frames)
    else:
        _write_webp(images, file, fps)


def _images(group: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(group):
        (length,) = struct.unpack_from(">I", group, start)
        yield group[start + 4 : start + 4 + length]
        start += 4 + length


def _write_apng(images: Iterator[bytes], file: IO[bytes], fps: float, frames: int) -> None:
    """PNG 3rd edition, section 11.3.6. The first frame is also the image of readers that know no animation."""
    delay = (1 / Fraction(fps)).limit_denominator(0xFFFF)
    number = 0
    for index, image in enumerate(images):
        chunks = list(_png_chunks(image))
        header = chunks[0][1]
        if index == 0:
            file.write(SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"acTL", struct.pack(">II", frames, 0)))
        width, height = struct.unpack_from(">II", header)
        timing = struct.pack(">HHBB", delay.numerator, delay.denominator, _NONE, _SOURCE)
        file.write(png_chunk(b"fcTL", struct.pack(">IIIII", number, width, height, 0, 0) + timing))
        number += 1
        for name, content in chunks:
            if name == b"IDAT" and index == 0:
                file.write(png_chunk(name, content))
            elif name == b"IDAT":
                file.write(png_chunk(b"fdAT", struct.pack(">I", number) + content))
                number += 1
    file.write(png_chunk(b"IEND", b""))


def _png_chunks(image: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = len(SIGNATURE)
    while start < len(image):
        length, name = struct.unpack_from(">I4s", image, start)
        yield name, image[start + 8 : start + 8 + length]
        start += 12 + length


def _write_webp(images: Iterator[bytes], file: IO[bytes], fps: float) -> None:
    """WebP container specification, "Animation"."""
    for index, image in enumerate(images):
        size = _webp_size(image)
        if index == 0:
            file.write(b"RIFF\0\0\0\0WEBP" + _riff(b"VP8X", struct.pack("<I", 0b10) + size))
            file.write(_riff(b"ANIM", struct.pack("<IH", 0, 0)))
        start, end = (round(1000 * moment / fps) for moment in (index, index + 1))
        frame = bytes(6) + size + (end - start).to_bytes(3, "little") + bytes([_NO_BLENDING])
        file.write(_riff(b"ANMF", frame + image[12:]))
    length = file.tell() - 8
    file.seek(4)
    file.write(struct.pack("<I", length))


def _webp_size(image: bytes) -> bytes:
    """Width − 1 and height − 1, in three bytes each, of a lossy image (RFC 6386, section 9.1)."""
    width, height = struct.unpack_from("<HH", image, 12 + 8 + 6)
    return b"".join(((side & 0x3FFF) - 1).to_bytes(3, "little") for side in (width, height))


def _riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
