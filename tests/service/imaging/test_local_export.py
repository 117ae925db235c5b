"""Tiles and PNGs that a renderer of this machine draws without a queue."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import obstore
import pytest
from PIL import Image

from model.spec import Format, RenderSpec
from service.outputs import local
from service.outputs.finish import finish
from service.outputs.local import Progress, draw_png, draw_tiles
from service.outputs.order import Kind
from service.outputs.store import STORE_ERRORS, Store
from tests.service.jobs.stand_in import expected_tiles, files_below, pattern
from tests.service.outputs.drawn import Picture, keep_tiles, make_order


class Patterns:
    """Draws patterns, and notes how many tiles it is asked for at a time.

    Args:
        seconds: that each tile takes, on a clock of its own.
        band: rows in a band.
    """

    def __init__(self, seconds: float = 0.1, band: int = 7) -> None:
        self.hands: list[int] = []
        self.now = 0.0
        self._seconds = seconds
        self._band = band

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[Picture]:
        self.hands.append(len(specs))
        self.now += self._seconds * len(specs)
        return [pattern(spec) for spec in specs]

    def bands(self, spec: RenderSpec, progress: Progress) -> Iterator[Picture]:
        picture = pattern(spec)
        for top in range(0, len(picture), self._band):
            progress(1)
            yield picture[top : top + self._band]


@pytest.mark.parametrize(
    ("kind", "image_format"), [("dzi", "png"), ("dzi", "webp"), ("tiff", "png"), ("tiff", "jpeg"), ("png", "png")]
)
def test_tiles_are_those_of_a_job(kind: Kind, image_format: Format, store: Store, root: Path) -> None:
    order = make_order(kind, image_format=image_format)
    told: list[int] = []
    draw_tiles(order, Patterns(), store, "jobs/a", told.append)
    assert files_below(root / "jobs/a") == expected_tiles(order)
    assert len(told) == order.pyramid.tiles
    assert sum(told) == order.pyramid.pixels


@pytest.mark.parametrize(("seconds", "usual"), [(0.05, 5), (0.11, 2), (1.0, 1), (1e-9, 16)])
def test_tiles_are_drawn_for_a_quarter_of_a_second_at_a_time(
    seconds: float, usual: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But no more than memory may hold."""
    renderer = Patterns(seconds)
    monkeypatch.setattr(local, "time", SimpleNamespace(perf_counter=lambda: renderer.now))
    monkeypatch.setattr(local, "HAND_PIXELS", 16 * 64 * 64)
    order = make_order("dzi", (1000, 300))
    draw_tiles(order, renderer, store, "jobs/a", lambda _: None)
    assert sum(renderer.hands) == order.pyramid.tiles
    assert renderer.hands[0] == 1
    assert max(renderer.hands) == usual
    assert set(renderer.hands[5:-1]) == {usual}


def test_what_is_drawn_is_kept_before_more_than_the_next_tiles_are_drawn(store: Store, root: Path) -> None:
    kept: list[tuple[int, int]] = []

    class Counting(Patterns):
        def render_batch(self, specs: Sequence[RenderSpec]) -> list[Picture]:
            kept.append((sum(self.hands[:-1]), len(files_below(root))))
            return super().render_batch(specs)

    order = make_order("dzi", (1000, 300))
    draw_tiles(order, Counting(), store, "jobs/a", lambda _: None)
    assert len(kept) > 3
    assert all(found >= expected for expected, found in kept)


def test_a_store_that_fails_ends_it(store: Store) -> None:
    order = make_order("dzi", (1000, 1000))
    obstore.put(store, "jobs/a/picture_files", b"in the way")
    renderer = Patterns()
    with pytest.raises(STORE_ERRORS):
        draw_tiles(order, renderer, store, "jobs/a", lambda _: None)
    assert sum(renderer.hands) < 10


def test_what_progress_raises_ends_it(store: Store, root: Path) -> None:
    def stop(pixels: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        draw_tiles(make_order("dzi", (1000, 1000)), Patterns(), store, "jobs/a", stop)
    assert len(files_below(root)) < 10


@pytest.mark.parametrize("band", [1, 7, 64, 1000])
def test_a_png_is_that_of_a_job(
    band: int, store: Store, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.outputs.png.PIECE_BYTES", 10_000)
    order = make_order("png", crop=(41, 13, 203, 150))
    keep_tiles(order, store, "jobs/a", pattern)
    finish(order, store, "jobs/a", lambda _: None)
    told: list[int] = []
    draw_png(order.spec, Patterns(band=band), tmp_path / "a.png", told.append)
    content = (tmp_path / "a.png").read_bytes()
    assert content == (root / "jobs/a/picture.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pattern(order.spec))
    assert len(told) == -(-150 // band)
