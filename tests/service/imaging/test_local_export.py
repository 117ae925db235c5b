"""Tiles and PNGs that a renderer of this machine draws without a queue."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import obstore
import pytest
from PIL import Image

from model.spec import Format, RenderSpec
from service.imaging import local_export
from service.imaging.assemble import assemble
from service.imaging.export_spec import Kind
from service.imaging.local_export import render_tiles
from service.imaging.metadata import png_metadata
from service.imaging.object_store import STORE_ERRORS, Store
from service.imaging.png import write_png
from tests.service.imaging.drawn import PixelArray, keep_tiles, make_order
from tests.service.jobs.stand_in import expected_tiles, files_below, pattern


class Patterns:
    """Draws patterns, and notes how many tiles it is asked for at a time.

    Args:
        seconds: that each tile takes, on a clock of its own.
    """

    def __init__(self, seconds: float = 0.1) -> None:
        self.batches: list[int] = []
        self.now = 0.0
        self._seconds = seconds

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[PixelArray]:
        self.batches.append(len(specs))
        self.now += self._seconds * len(specs)
        return [pattern(spec) for spec in specs]


@pytest.mark.parametrize(
    ("kind", "image_format"), [("dzi", "png"), ("dzi", "webp"), ("tiff", "png"), ("tiff", "jpeg"), ("png", "png")]
)
def test_tiles_are_those_of_a_job(kind: Kind, image_format: Format, store: Store, root: Path) -> None:
    export = make_order(kind, image_format=image_format)
    told: list[int] = []
    render_tiles(export, Patterns(), store, "jobs/a", told.append)
    assert files_below(root / "jobs/a") == expected_tiles(export)
    assert len(told) == export.pyramid.tiles
    assert sum(told) == export.pyramid.pixels


@pytest.mark.parametrize(("seconds", "usual"), [(0.05, 5), (0.11, 2), (1.0, 1), (1e-9, 16)])
def test_tiles_are_drawn_for_a_quarter_of_a_second_at_a_time(
    seconds: float, usual: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But no more than memory may hold."""
    renderer = Patterns(seconds)
    monkeypatch.setattr(local_export, "time", SimpleNamespace(perf_counter=lambda: renderer.now))
    monkeypatch.setattr(local_export, "BATCH_PIXELS", 16 * 64 * 64)
    export = make_order("dzi", (1000, 300))
    render_tiles(export, renderer, store, "jobs/a", lambda _: None)
    assert sum(renderer.batches) == export.pyramid.tiles
    assert renderer.batches[0] == 1
    assert max(renderer.batches) == usual
    assert set(renderer.batches[5:-1]) == {usual}


def test_what_is_drawn_is_kept_before_more_than_the_next_tiles_are_drawn(store: Store, root: Path) -> None:
    kept: list[tuple[int, int]] = []

    class Counting(Patterns):
        def render_batch(self, specs: Sequence[RenderSpec]) -> list[PixelArray]:
            kept.append((sum(self.batches[:-1]), len(files_below(root))))
            return super().render_batch(specs)

    export = make_order("dzi", (1000, 300))
    render_tiles(export, Counting(), store, "jobs/a", lambda _: None)
    assert len(kept) > 3
    assert all(found >= expected for expected, found in kept)


def test_a_store_that_fails_ends_it(store: Store) -> None:
    export = make_order("dzi", (1000, 1000))
    obstore.put(store, "jobs/a/picture_files", b"in the way")
    renderer = Patterns()
    with pytest.raises(STORE_ERRORS):
        render_tiles(export, renderer, store, "jobs/a", lambda _: None)
    assert sum(renderer.batches) < 10


def test_what_progress_raises_ends_it(store: Store, root: Path) -> None:
    def stop(pixels: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        render_tiles(make_order("dzi", (1000, 1000)), Patterns(), store, "jobs/a", stop)
    assert len(files_below(root)) < 10


@pytest.mark.parametrize("band", [1, 7, 64, 1000])
def test_a_png_is_that_of_a_job(band: int, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.imaging.png.PIECE_BYTES", 10_000)
    export = make_order("png", crop=(41, 13, 203, 150))
    keep_tiles(export, store, "jobs/a", pattern)
    assemble(export, store, "jobs/a", lambda _: None)
    image, file = pattern(export.spec), io.BytesIO()
    with ThreadPoolExecutor() as encoders:
        bands = (image[top : top + band] for top in range(0, 150, band))
        write_png(203, 150, bands, file.write, encoders, png_metadata(export.spec))
    assert file.getvalue() == (root / "jobs/a/picture.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(file)), image)
