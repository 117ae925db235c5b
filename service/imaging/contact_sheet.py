"""Contact sheets: many images of one size in a grid, each with a label below."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.errors import InputError

MARGIN = 4
LABEL_HEIGHT = 16
MAX_PIXELS = 2**26
"""Largest sheet: it is held in memory, and is for looking at."""

_WHITE, _MISSING, _TEXT = 255, 224, (60, 60, 60)
_FONT_SIZE = 11


def sheet_size(cells: int, columns: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of a sheet. Raises InputError if it is larger than MAX_PIXELS."""
    rows = -(-cells // columns)
    size = MARGIN + columns * (width + MARGIN), MARGIN + rows * (height + LABEL_HEIGHT + MARGIN)
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError("sheet", f"would have {size[0]}×{size[1]} pixels, more than {MAX_PIXELS}")
    return size


def cell_box(index: int, columns: int, width: int, height: int) -> tuple[int, int]:
    """The left and top pixel of a cell."""
    row, column = divmod(index, columns)
    return MARGIN + column * (width + MARGIN), MARGIN + row * (height + LABEL_HEIGHT + MARGIN)


def contact_sheet(images: Sequence[NDArray[np.uint8] | None], columns: int, labels: Sequence[str]) -> NDArray[np.uint8]:
    """Place images [h, w, 3], row by row, on white. Their pixels are unchanged; a cell of None is grey."""
    height, width = next(image.shape[:2] for image in images if image is not None)
    sheet_width, sheet_height = sheet_size(len(images), columns, width, height)
    sheet = Image.new("RGB", (sheet_width, sheet_height), (_WHITE,) * 3)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for index, label in enumerate(labels):
        left, top = cell_box(index, columns, width, height)
        draw.text((left, top + height + 1), _fit(label, width, font), _TEXT, font)
    pixels = np.array(sheet)
    for index, image in enumerate(images):
        left, top = cell_box(index, columns, width, height)
        pixels[top : top + height, left : left + width] = _MISSING if image is None else image
    return pixels


def legend_cell(lines: Sequence[str], width: int, height: int) -> NDArray[np.uint8]:
    """A white cell [h, w, 3] with lines of text, as far as they fit."""
    cell = Image.new("RGB", (width, height), (_WHITE,) * 3)
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(_FONT_SIZE)
    for index, line in enumerate(lines):
        draw.text((1, 1 + index * (_FONT_SIZE + 3)), _fit(line, width, font), _TEXT, font)
    return np.array(cell)


def _fit(label: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """As much of a label as is not wider than its cell."""
    while label and font.getlength(label) > width:
        label = label[:-1]
    return label
