"""What a network knows between the pixels of its training pictures: beside Lanczos upsampling, as one picture.

Figure 1 of the paper does the same: the left enlargement guesses, the right one is drawn.
"""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.evaluation.pictures import Draw, progress
from model.viewport import Viewport

PANEL = 384
"""Side of each of a row's three panels, in pixels."""

MARGIN = 24

LEAST_SCALE = 8
"""Enlargement of the detail at least; so much is needed before pixels can be told apart on a screen."""

DETAIL = 4
"""The detail is at most this part of the picture's side: 16 pixels of 64, shown 24 times as large."""

PAPER = (240, 240, 243)
"""Colour around the panels: not white, which is what many pictures end in."""

FRAME = (230, 30, 90)
"""Colour that marks the detail in the whole picture."""


def draw_figure(draw: Draw, resolution: int, seeds: Sequence[int]) -> bytes:
    """A PNG with a row for each seed: the whole picture, a detail enlarged by Lanczos, and that detail as it is drawn.

    The detail is where the picture of the training resolution has most contrast. Both enlargements lie on the same
    pixel centres, so they can be compared pixel for pixel.

    Args:
        draw: what draws.
        resolution: the training resolution.
        seeds: the pictures.
    """
    side = min(resolution // DETAIL, PANEL // LEAST_SCALE)
    scale = PANEL // side
    panel = side * scale
    headings = (  # Pillow's own font has no ×
        "Whole picture",
        f"{resolution} x {resolution}, enlarged {scale} times (Lanczos)",
        f"Drawn at {resolution * scale} x {resolution * scale}",
    )
    heading_height = 2 * MARGIN
    width = MARGIN + len(headings) * (panel + MARGIN)
    sheet = Image.new("RGB", (width, heading_height + len(seeds) * (panel + MARGIN)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    lefts = range(MARGIN, width, panel + MARGIN)
    for left, heading in zip(lefts, headings, strict=True):
        pen.text((left + panel / 2, heading_height / 2), heading, "black", font, anchor="mm")
    with progress("drawing the figure", len(seeds)) as advance:
        for row, seed in enumerate(seeds):
            top = heading_height + row * (panel + MARGIN)
            for left, picture in zip(lefts, _panels(draw, seed, resolution, side, panel), strict=True):
                sheet.paste(picture, (left, top))
            advance(1)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _panels(draw: Draw, seed: int, resolution: int, side: int, panel: int) -> tuple[Image.Image, ...]:
    def drawn(viewport: Viewport) -> NDArray[np.uint8]:
        return draw([seed], viewport)[0].astype(np.uint8)

    native = drawn(Viewport.resolve(resolution, resolution))
    x, y = find_detail(native, side)
    lanczos = Image.fromarray(native).resize((panel, panel), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side))
    scale = panel // side
    large = Viewport.resolve(resolution * scale, resolution * scale, crop=(x * scale, y * scale, panel, panel))
    whole = Image.fromarray(drawn(Viewport.resolve(panel, panel)))
    frame = [round(corner * panel / resolution) for corner in (x, y, x + side, y + side)]
    ImageDraw.Draw(whole).rectangle(frame, outline=FRAME, width=2)
    return whole, lanczos, Image.fromarray(drawn(large))


def find_detail(picture: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """(x, y) of the square of ``side`` pixels with most contrast in a picture [h, w, 3].

    Contrast is the sum of squared differences between neighbouring pixels, weighted less towards the edges of the
    square, so that what is shown stands in its middle.
    """
    levels = picture.astype(np.float64)
    energy = np.zeros(levels.shape[:2])
    energy[1:] += np.square(np.diff(levels, axis=0)).sum(axis=2)
    energy[:, 1:] += np.square(np.diff(levels, axis=1)).sum(axis=2)
    half = side // 2
    weighted = _sum_squares(_sum_squares(energy, side - half + 1), half)  # a pyramid is a box over a box
    y, x = np.unravel_index(weighted.argmax(), weighted.shape)
    return int(x), int(y)


def _sum_squares(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """[h, w] → [h − side + 1, w − side + 1], the sum over each square of ``side``."""
    for axis in (0, 1):
        values = np.lib.stride_tricks.sliding_window_view(values, side, axis=axis).sum(axis=2)
    return values
