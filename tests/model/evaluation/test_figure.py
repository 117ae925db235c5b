"""The figure beside Lanczos: what its panels show."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.figure import BACKGROUND, FRAME, MARGIN, PANEL, find_detail, render_figure
from model.evaluation.image_sets import Sampler
from model.viewport import Viewport


def test_find_detail_centres_what_stands_out() -> None:
    image = np.full((64, 64, 3), 90, np.uint8)
    image[40:44, 18:22] = 250
    x, y = find_detail(image, 16)
    assert abs(x + 8 - 20) <= 1
    assert abs(y + 8 - 42) <= 1


@given(st.integers(2, 24), st.integers(0, 2**32 - 1))
def test_details_lie_within_the_image(side: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    x, y = find_detail(image, side)
    assert 0 <= x <= 24 - side
    assert 0 <= y <= 24 - side


def waves(resolution: int, cycles: float) -> Sampler:
    """Waves over the unit square, with a phase of their own for each seed."""

    def sampler(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
        assert viewport.grid == "centers"  # on which all panels are registered
        left, top, w, h = viewport.crop
        x = viewport.columns(left, left + w, resolution)
        y = viewport.rows(top, top + h, resolution)[:, None]
        phases = [2 * np.pi * (cycles * (x + 2 * y) + channel * x * y) for channel in range(3)]
        return [(128 + 120 * np.sin(np.stack(phases, axis=2) + seed)).astype(np.float32) for seed in seeds]

    return sampler


def read(content: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content)) as file:
        assert file.format == "PNG"
        return np.asarray(file.convert("RGB"))


@pytest.mark.parametrize("resolution", [16, 64, 512])
def test_panels(resolution: int) -> None:
    sampler = waves(resolution, resolution / 16)
    sheet = read(render_figure({"waves": sampler}, resolution, [4, 5]))
    step, top = PANEL + MARGIN, 2 * MARGIN
    assert sheet.shape == (top + 2 * step, MARGIN + 3 * step, 3)
    assert (sheet[:, :MARGIN] == BACKGROUND).all()
    assert (sheet[:top] != BACKGROUND).any(axis=2).sum() > 300  # headings

    native = sampler([5], Viewport.resolve(resolution, resolution))[0].astype(np.uint8)
    side = min(resolution // 4, 48)
    scale = PANEL // side
    x, y = find_detail(native, side)
    whole, lanczos, rendered = (
        sheet[top + step : top + step + PANEL, left : left + PANEL] for left in (MARGIN + i * step for i in range(3))
    )
    box = (x, y, x + side, y + side)
    enlarged = Image.fromarray(native).resize((PANEL, PANEL), Image.Resampling.LANCZOS, box=box)
    assert np.array_equal(lanczos, np.asarray(enlarged))
    viewport = Viewport.resolve(resolution * scale, resolution * scale, crop=(x * scale, y * scale, PANEL, PANEL))
    assert np.array_equal(rendered, sampler([5], viewport)[0].astype(np.uint8))
    frame = np.argwhere((whole == FRAME).all(axis=2))
    edges = [edge * PANEL / resolution for edge in (y, x, y + side, x + side)]
    assert np.allclose([*frame.min(axis=0), *frame.max(axis=0)], edges, atol=1)


def test_another_network_renders_the_same_place() -> None:
    sampler, other = waves(64, 4), waves(64, 8)
    alone = read(render_figure({"fine": sampler}, 64, [1]))
    both = read(render_figure({"coarse": other, "fine": sampler}, 64, [1]))
    step, top = PANEL + MARGIN, 2 * MARGIN
    assert both.shape == (alone.shape[0], alone.shape[1] + step, 3)
    assert np.array_equal(both[top:, : 2 * step], alone[top:, : 2 * step])
    assert np.array_equal(both[top:, 3 * step :], alone[top:, 2 * step :])
    x, y = find_detail(sampler([1], Viewport.resolve(64, 64))[0].astype(np.uint8), 16)
    viewport = Viewport.resolve(64 * 24, 64 * 24, crop=(x * 24, y * 24, PANEL, PANEL))
    expected = other([1], viewport)[0].astype(np.uint8)
    assert np.array_equal(both[top : top + PANEL, MARGIN + 2 * step :][:, :PANEL], expected)


def test_both_enlargements_show_the_same_place() -> None:
    """Of what is smooth they agree, and they would not if they were half a pixel apart."""
    sheet = read(render_figure({"waves": waves(64, 4)}, 64, [0])).astype(np.float64)
    lefts = [MARGIN + i * (PANEL + MARGIN) for i in (1, 2)]
    lanczos, rendered = (sheet[2 * MARGIN : 2 * MARGIN + PANEL, left : left + PANEL] for left in lefts)
    inner = slice(72, -72)  # three pixels of 24, so that Lanczos has all it needs should the detail lie at an edge
    half = 12
    registered = np.abs(lanczos - rendered)[inner, inner].mean()
    shifted = np.abs(lanczos[:, half:] - rendered[:, :-half])[inner, inner].mean()
    assert registered < 3
    assert registered < shifted / 8
