"""Frames of a video that zooms through the sizes of an image, beside its enlargement, over the curve of their PSNR."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from model.evaluation.figure import BACKGROUND, find_detail
from model.evaluation.image_sets import MAX_SIDE, Sampler
from model.evaluation.scale_consistency import MAX_PSNR, psnr
from model.util.progress import progress
from model.viewport import Region, Viewport

FPS = 30.0

PANEL = 512
"""Side of both panels in pixels. Smaller images are enlarged to it; of larger ones a part is shown."""

MOVING, STANDING = 210, 30
"""Frames of the zoom, and of the last size after it."""

LEAST, MOST, MIN_LAST = 0.5, 8, 2048
"""The smallest and largest size in training resolutions; small networks go on to MIN_LAST pixels."""

_MARGIN, _HEADING, _CHART = 24, 48, 240
WIDTH, HEIGHT = 2 * PANEL + 3 * _MARGIN, _HEADING + PANEL + _CHART
"""Size of a frame in pixels, even as video formats need it."""

_TOP, _BOTTOM, _LEFT, _INSET = 64, 42, 64, 12
"""Room in the chart for its heading, the sizes, the decibels, and between these and the curve, in pixels."""

_SHARPNESS = 3
"""Lines are drawn so many times as large, then averaged."""

_CEILING, _STEP = 60, 10
"""Top of the axis in dB, which images of integers do not reach unless they are equal; and the step of its labels."""

_COLOUR, _PALE = (214, 26, 84), (236, 176, 196)
_GRID, _AXIS, _TEXT = (216, 216, 222), (130, 130, 140), (40, 40, 48)


@dataclass(frozen=True)
class Agreement:
    """PSNR in dB of the image that is rendered at ``size``² and the one of the training resolution, resized to it."""

    size: int
    psnr: float


class SizeZoom:
    """The zoom of one seed's image. The whole image is rendered at all sizes here, and compared with the small one.

    Attributes:
        sizes: side of the image in each frame: from LEAST times the resolution, at a constant speed of zooming.
        curve: its agreement with the small image at each of these sizes and at the training resolution, ascending.
    """

    def __init__(self, sampler: Sampler, seed: int, resolution: int) -> None:
        self._sampler, self._seed, self._resolution = sampler, seed, resolution
        first = max(1, round(LEAST * resolution))
        last = max(min(max(MOST * resolution, MIN_LAST), MAX_SIDE), 2 * resolution)
        steps = (np.arange(MOVING) / (MOVING - 1)).tolist()
        self.sizes = [round(first * (last / first) ** step) for step in steps] + [last] * STANDING
        self._small = self._render(Viewport.resolve(resolution, resolution))
        compared = sorted({*self.sizes, resolution})
        self.curve = [self._compare(size) for size in progress(compared, len(compared), "comparing sizes", unit="size")]

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """A frame [HEIGHT, WIDTH, 3] for each of ``sizes``."""
        detail = max(1, round(self._resolution * min(1.0, PANEL / self.sizes[-1])))
        target = find_detail(self._small, detail)
        chart = _Chart(self.curve, self._resolution)
        shown, frame = 0, Image.new("RGB", (WIDTH, HEIGHT))
        for size in progress(self.sizes, len(self.sizes), "rendering the video", unit="frame"):
            if size != shown:
                frame, shown = self._compose(size, target, detail), size
                chart.paste(frame, size)
            yield np.asarray(frame)

    def _render(self, viewport: Viewport) -> NDArray[np.uint8]:
        return self._sampler([self._seed], viewport)[0].astype(np.uint8)

    def _compare(self, size: int) -> Agreement:
        resized = Image.fromarray(self._small).resize((size, size), Image.Resampling.LANCZOS)
        return Agreement(size, psnr(self._render(Viewport.resolve(size, size)), np.asarray(resized)))

    def _compose(self, size: int, target: tuple[int, int], detail: int) -> Image.Image:
        """Both panels under their headings."""
        native = Image.fromarray(self._small)
        if size <= PANEL:
            images = (
                Image.fromarray(self._render(Viewport.resolve(size, size))),
                native.resize((size, size), Image.Resampling.LANCZOS),
            )
            panels = [image.resize((PANEL, PANEL), Image.Resampling.NEAREST) for image in images]
        else:
            region = _region(PANEL / size, [edge / self._resolution for edge in (*target, detail)])
            x0, y0, x1, y1 = (edge * self._resolution for edge in region)
            panels = [
                Image.fromarray(self._render(Viewport.resolve(PANEL, PANEL, region))),
                native.resize((PANEL, PANEL), Image.Resampling.LANCZOS, box=(x0, y0, x1, y1)),
            ]
        frame = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
        canvas, font = ImageDraw.Draw(frame), ImageFont.load_default(18)
        sides, small = f"{size} x {size}", f"{self._resolution} x {self._resolution}"  # Pillow's own font has no ×
        headings = f"Rendered at {sides}", f"{small}, resized to {sides} (Lanczos)"
        for panel, heading, left in zip(panels, headings, (_MARGIN, 2 * _MARGIN + PANEL), strict=True):
            canvas.text((left, _HEADING / 2), heading, _TEXT, font, anchor="lm")
            frame.paste(panel, (left, _HEADING))
        return frame


def _region(side: float, target: Sequence[float]) -> Region:
    """The part of the image on the way to the target (x, y, side), which the zoom holds in its place."""
    x, y, last = target
    part = (1 - side) / (1 - last) if last < 1 else 0.0
    left, top = (min(max(edge * part, 0.0), 1 - side) for edge in (x, y))
    return left, top, left + side, top + side


class _Chart:
    """The curve over the sizes, which is drawn as far as the video is."""

    def __init__(self, curve: Sequence[Agreement], resolution: int) -> None:
        self._curve, self._training = curve, resolution
        octaves = range(math.ceil(math.log2(curve[0].size / resolution)), MAX_SIDE.bit_length())
        self._sizes = [size for octave in octaves if (size := round(resolution * 2.0**octave)) <= curve[-1].size]
        least = min(each.psnr for each in curve)
        self._low = min(max(0, _STEP * math.floor(least / _STEP)), _CEILING - 2 * _STEP)
        self._base = Image.new("RGB", (WIDTH * _SHARPNESS, _CHART * _SHARPNESS), BACKGROUND)
        self._draw_base(ImageDraw.Draw(self._base))

    def paste(self, frame: Image.Image, size: int) -> None:
        """Draw the chart at the frame's lower edge, with the curve up to ``size``."""
        lines = self._base.copy()
        canvas = ImageDraw.Draw(lines)
        reached = [each for each in self._curve if each.size <= size]
        self._plot(canvas, reached, _COLOUR, 3)
        x, y = self._x(size), self._y(reached[-1].psnr)
        radius = 6 * _SHARPNESS
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), _COLOUR, "white", 2 * _SHARPNESS)
        frame.paste(lines.reduce(_SHARPNESS), (0, HEIGHT - _CHART))
        self._write(ImageDraw.Draw(frame), reached[-1])

    def _draw_base(self, canvas: ImageDraw.ImageDraw) -> None:
        """The grid, and the curve in pale."""
        left, right = (x * _SHARPNESS for x in (_LEFT, WIDTH - _MARGIN))
        for level in range(self._low, _CEILING + 1, _STEP):
            y = self._y(level)
            canvas.line((left, y, right, y), _GRID, _SHARPNESS)
        for size in self._sizes:
            x, training = self._x(size), size == self._training
            ends = (x, self._y(_CEILING), x, self._y(self._low))
            canvas.line(ends, _AXIS if training else _GRID, _SHARPNESS * (2 if training else 1))
        self._plot(canvas, self._curve, _PALE, 2)

    def _plot(
        self, canvas: ImageDraw.ImageDraw, curve: Sequence[Agreement], colour: tuple[int, int, int], width: int
    ) -> None:
        points = [(self._x(each.size), self._y(each.psnr)) for each in curve]
        if len(points) > 1:
            canvas.line(points, colour, width * _SHARPNESS, joint="curve")

    def _write(self, canvas: ImageDraw.ImageDraw, now: Agreement) -> None:
        """The heading with the value, and the labels of the axes."""
        top, small = HEIGHT - _CHART, ImageFont.load_default(14)
        value = "equal" if now.psnr >= MAX_PSNR else f"{now.psnr:.1f} dB"
        canvas.text((_MARGIN, top + 30), value, _COLOUR, ImageFont.load_default(22), anchor="lm")
        text = "PSNR of both, as whole images, over their side in pixels"
        canvas.text((_MARGIN + 96, top + 31), text, _TEXT, ImageFont.load_default(16), anchor="lm")
        for level in range(self._low, _CEILING + 1, _STEP):
            label = f"{level} dB" if level == _CEILING else f"{level}"
            canvas.text((_LEFT - 8, top + self._y(level) / _SHARPNESS), label, _TEXT, small, anchor="rm")
        for size in self._sizes:
            label = f"{size} (training)" if size == self._training else f"{size}"
            canvas.text((self._x(size) / _SHARPNESS, top + _CHART - _BOTTOM + 10), label, _TEXT, small, anchor="mt")

    def _x(self, size: int) -> float:
        """In pixels of the chart as it is drawn, as ``_y``."""
        first, last = self._curve[0].size, self._curve[-1].size
        left, right = _LEFT + _INSET, WIDTH - _MARGIN - _INSET
        return (left + (right - left) * math.log(size / first) / math.log(last / first)) * _SHARPNESS

    def _y(self, level: float) -> float:
        part = (min(level, _CEILING) - self._low) / (_CEILING - self._low)
        return (_CHART - _BOTTOM - (_CHART - _BOTTOM - _TOP) * part) * _SHARPNESS
