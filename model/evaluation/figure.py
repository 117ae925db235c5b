"""A figure that compares rendering at a larger scale with Lanczos upsampling, as Figure 1 of the paper does."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.evaluation.image_sets import Sampler
from model.util.progress import progress
from model.viewport import Viewport

PANEL = 384
"""Side of each panel in pixels."""

MARGIN = 24

MIN_SCALE = 8
"""Least enlargement of the detail; less does not show single pixels on a screen."""

MIN_DETAILS = 4
"""The detail's side is at most the image's over this: 16 pixels of 64, shown 24 times as large."""

MAX_NAME = 24
"""Characters of a network's name above its panels."""

BACKGROUND = (240, 240, 243)
"""Colour around the panels: not white, which many images have at their edges."""

FRAME = (230, 30, 90)
"""Colour of the frame around the detail in the whole image."""


def render_figure(networks: Mapping[str, Sampler], resolution: int, seeds: Sequence[int]) -> bytes:
    """A PNG with a row for each seed: the whole image, a detail enlarged by Lanczos, and that detail rendered.

    The detail is where the image of the training resolution has most contrast. All enlargements have the same pixel
    centres, so they can be compared pixel for pixel.

    Args:
        networks: by name. Each renders the detail; the last one also the whole image and what Lanczos enlarges.
        resolution: training resolution of the last one.
    """
    side = min(resolution // MIN_DETAILS, PANEL // MIN_SCALE)
    scale = PANEL // side
    panel = side * scale
    size = f"{resolution * scale} x {resolution * scale}"  # Pillow's own font has no ×
    headings = (
        "Whole image",
        f"{resolution} x {resolution}, enlarged {scale} times (Lanczos)",
        *([f"Rendered at {size}"] if len(networks) == 1 else [f"{name[:MAX_NAME]}: {size}" for name in networks]),
    )
    heading_height = 2 * MARGIN
    width = MARGIN + len(headings) * (panel + MARGIN)
    sheet = Image.new("RGB", (width, heading_height + len(seeds) * (panel + MARGIN)), BACKGROUND)
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    lefts = range(MARGIN, width, panel + MARGIN)
    for left, heading in zip(lefts, headings, strict=True):
        canvas.text((left + panel / 2, heading_height / 2), heading, "black", font, anchor="mm")
    for row, seed in enumerate(progress(seeds, len(seeds), "rendering the figure")):
        top = heading_height + row * (panel + MARGIN)
        panels = _panels(list(networks.values()), seed, resolution, side, panel)
        for left, image in zip(lefts, panels, strict=True):
            sheet.paste(image, (left, top))
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _panels(samplers: Sequence[Sampler], seed: int, resolution: int, side: int, panel: int) -> list[Image.Image]:
    def render(viewport: Viewport, sampler: Sampler = samplers[-1]) -> NDArray[np.uint8]:
        return sampler([seed], viewport)[0].astype(np.uint8)

    native = render(Viewport.resolve(resolution, resolution))
    x, y = find_detail(native, side)
    lanczos = Image.fromarray(native).resize((panel, panel), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side))
    scale = panel // side
    large = Viewport.resolve(resolution * scale, resolution * scale, crop=(x * scale, y * scale, panel, panel))
    whole = Image.fromarray(render(Viewport.resolve(panel, panel)))
    frame = [round(corner * panel / resolution) for corner in (x, y, x + side, y + side)]
    ImageDraw.Draw(whole).rectangle(frame, outline=FRAME, width=2)
    return [whole, lanczos, *(Image.fromarray(render(large, sampler)) for sampler in samplers)]


def find_detail(image: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """(x, y) of the square of ``side`` pixels with most contrast in an image [h, w, 3].

    Contrast is the sum of squared differences between neighbouring pixels, weighted less towards the edges of the
    square so that the detail is centred.
    """
    levels = image.astype(np.float64)
    energy = np.zeros(levels.shape[:2])
    energy[1:] += np.square(np.diff(levels, axis=0)).sum(axis=2)
    energy[:, 1:] += np.square(np.diff(levels, axis=1)).sum(axis=2)
    half = side // 2
    weighted = _box_sum(_box_sum(energy, side - half + 1), half)  # two box filters make a pyramid
    y, x = np.unravel_index(weighted.argmax(), weighted.shape)
    return int(x), int(y)


def _box_sum(values: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """[h, w] → [h − side + 1, w − side + 1], the sums over all squares of ``side``."""
    for axis in (0, 1):
        values = np.lib.stride_tricks.sliding_window_view(values, side, axis=axis).sum(axis=2)
    return values
