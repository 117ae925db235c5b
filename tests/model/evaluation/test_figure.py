"""The figure beside Lanczos: what its panels show."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.figure import FRAME, MARGIN, PANEL, PAPER, draw_figure, find_detail
from model.evaluation.network import GeneratorDrawer
from model.viewport import Viewport
from tests.kernels.networks import TINY, random_network


def test_find_detail_centres_what_stands_out() -> None:
    picture = np.full((64, 64, 3), 90, np.uint8)
    picture[40:44, 18:22] = 250
    x, y = find_detail(picture, 16)
    assert abs(x + 8 - 20) <= 1
    assert abs(y + 8 - 42) <= 1


@given(st.integers(2, 24), st.integers(0, 2**32 - 1))
def test_details_lie_within_the_picture(side: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    x, y = find_detail(picture, side)
    assert 0 <= x <= 24 - side
    assert 0 <= y <= 24 - side


@pytest.mark.parametrize("resolution", [16, 64])
def test_panels(resolution: int) -> None:
    generator = random_network(TINY)
    drawer = GeneratorDrawer(generator)
    asked: list[Viewport] = []

    def draw(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
        asked.append(viewport)
        return drawer(seeds, viewport)

    content = draw_figure(draw, resolution, [4, 5])
    with Image.open(io.BytesIO(content)) as file:
        assert file.format == "PNG"
        sheet = np.asarray(file.convert("RGB"))
    step = PANEL + MARGIN
    top = 2 * MARGIN
    assert sheet.shape == (top + 2 * step, MARGIN + 3 * step, 3)
    assert (sheet[:, :MARGIN] == PAPER).all()
    assert (sheet[:top] != PAPER).any(axis=2).sum() > 300  # headings

    native = drawer([5], Viewport.resolve(resolution, resolution))[0].astype(np.uint8)
    side = resolution // 4
    scale = PANEL // side
    x, y = find_detail(native, side)
    whole, lanczos, drawn = (
        sheet[top + step : top + step + PANEL, left : left + PANEL] for left in (MARGIN + i * step for i in range(3))
    )
    box = (x, y, x + side, y + side)
    enlarged = Image.fromarray(native).resize((PANEL, PANEL), Image.Resampling.LANCZOS, box=box)
    assert np.array_equal(lanczos, np.asarray(enlarged))
    viewport = Viewport.resolve(resolution * scale, resolution * scale, crop=(x * scale, y * scale, PANEL, PANEL))
    assert np.array_equal(drawn, drawer([5], viewport)[0].astype(np.uint8))
    frame = np.argwhere((whole == FRAME).all(axis=2))
    edges = [edge * PANEL / resolution for edge in (y, x, y + side, x + side)]
    assert np.allclose([*frame.min(axis=0), *frame.max(axis=0)], edges, atol=1)
    assert {viewport.grid for viewport in asked} == {"centers"}  # so that all panels are registered


def test_both_enlargements_show_the_same_place() -> None:
    """Of a smooth network they agree nearly everywhere, and they would not if they were half a pixel apart."""
    drawer = GeneratorDrawer(random_network(TINY, frequencies=0.1))
    sheet = np.asarray(Image.open(io.BytesIO(draw_figure(drawer, 32, [0]))).convert("RGB")).astype(float)
    lefts = [MARGIN + i * (PANEL + MARGIN) for i in (1, 2)]
    lanczos, drawn = (sheet[2 * MARGIN : 2 * MARGIN + PANEL, left : left + PANEL] for left in lefts)
    half = PANEL // 8 // 2
    registered = np.abs(lanczos - drawn).mean()
    shifted = np.abs(lanczos[:, half:] - drawn[:, :-half]).mean()
    assert registered < 1
    assert registered < shifted / 4
