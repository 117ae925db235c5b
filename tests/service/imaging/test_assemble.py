"""Finished files, opened by the programs that people have, and what is left where something goes wrong."""

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import imagecodecs
import numpy as np
import obstore
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from model.spec import Format
from model.viewport import Crop
from service.imaging import object_store
from service.imaging.assemble import assemble
from service.imaging.export_spec import KINDS, ExportSpec, Kind
from service.imaging.object_store import Store
from tests.service.imaging.drawn import Draw, keep_tiles, level_spec, make_order, noise, smooth
from tests.service.jobs.stand_in import files_below, pattern

SIZES = [(300, 170), (64, 64), (65, 1), (1, 130), (129, 256), (1, 1)]


def make(export: ExportSpec, store: Store, draw: Draw = pattern) -> bytes:
    """The finished file of an order whose tiles are drawn so."""
    keep_tiles(export, store, "jobs/a", draw)
    told: list[int] = []
    assemble(export, store, "jobs/a", told.append)
    assert sum(told) == export.pyramid.tiles
    return bytes(obstore.get(store, f"jobs/a/{export.name}").bytes())


def levels(export: ExportSpec, draw: Draw = pattern) -> list[NDArray[np.uint8]]:
    """What a TIFF must show: the picture itself first."""
    return [draw(level_spec(export, level)) for level in reversed(range(len(export.pyramid.levels)))]


def read_with_tifffile(content: bytes) -> list[NDArray[np.uint8]]:
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert file.is_bigtiff
        return [page.asarray() for page in file.pages]


def read_with_pillow(content: bytes) -> list[NDArray[np.uint8]]:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"
        return [np.asarray(page) for page in ImageSequence.Iterator(image)]


class TestTiff:
    @pytest.mark.parametrize("size", SIZES)
    def test_lossless_ones_keep_every_pixel_of_every_level(self, size: tuple[int, int], store: Store) -> None:
        export = make_order("tiff", size)
        content = make(export, store)
        for found in (read_with_tifffile(content), read_with_pillow(content)):
            assert len(found) == len(export.pyramid.levels)
            for image, expected in zip(found, levels(export), strict=True):
                assert np.array_equal(image, expected)

    @pytest.mark.parametrize(("quality", "tolerance"), [(95, 1.5), (90, 2.0), (75, 4.0)])
    def test_jpeg_ones_look_the_same(self, quality: int, tolerance: float, store: Store) -> None:
        export = make_order("tiff", (300, 170), "jpeg", quality=quality)
        content = make(export, store, smooth)
        for found in (read_with_tifffile(content), read_with_pillow(content)):
            assert len(found) == len(export.pyramid.levels)
            for image, expected in zip(found, levels(export, smooth), strict=True):
                difference = np.abs(image.astype(int) - expected)
                assert difference.mean() < tolerance
                assert difference.max() < 10 * tolerance

    def test_levels_are_found_as_such(self, store: Store) -> None:
        with tifffile.TiffFile(io.BytesIO(make(make_order("tiff"), store))) as file:
            assert len(file.series) == 1
            assert [level.shape for level in file.series[0].levels] == [
                (170, 300, 3),
                (85, 150, 3),
                (43, 75, 3),
                (22, 38, 3),
            ]
            pages = [level.keyframe for level in file.series[0].levels]
            assert [page.subfiletype for page in pages] == [0, 1, 1, 1]
            assert all(page.tilewidth == page.tilelength == 64 for page in pages)
            assert pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


class TestPng:
    @pytest.mark.parametrize("size", SIZES)
    def test_every_pixel(self, size: tuple[int, int], store: Store) -> None:
        export = make_order("png", size)
        with Image.open(io.BytesIO(make(export, store))) as image:
            assert image.format == "PNG"
            assert image.mode == "RGB"
            assert np.array_equal(np.asarray(image), pattern(export.spec))


class TestDeepZoom:
    @pytest.mark.parametrize(("image_format", "ending"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
    def test_descriptor(self, image_format: Format, ending: str, store: Store) -> None:
        content = make(make_order("dzi", (300, 170), image_format), store)
        root = ElementTree.fromstring(content)  # noqa: S314 - our own
        namespace = "{http://schemas.microsoft.com/deepzoom/2008}"
        assert root.tag == f"{namespace}Image"
        assert root.attrib == {"Format": ending, "Overlap": "0", "TileSize": "64"}
        size = root.find(f"{namespace}Size")
        assert size is not None
        assert size.attrib == {"Width": "300", "Height": "170"}

    @pytest.mark.parametrize("crop", [None, (41, 13, 203, 150)])
    def test_stitched_tiles_are_the_image(self, crop: Crop | None, store: Store, root: Path) -> None:
        export = make_order("dzi", crop=crop)
        make(export, store)
        assert np.array_equal(stitch(root / "jobs/a/picture_files", export), pattern(export.spec))


def stitch(folder: Path, export: ExportSpec) -> NDArray[np.uint8]:
    """The last level, from the files alone, as a viewer finds them."""
    last = max(folder.iterdir(), key=lambda path: int(path.name))
    image = export.pyramid.levels[-1]
    whole = np.zeros((image.height, image.width, 3), np.uint8)
    for path in last.iterdir():
        column, row = map(int, path.stem.split("_"))
        tile = imagecodecs.imread(path)
        y, x = row * export.tile, column * export.tile
        whole[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return whole


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_second_run_gives_the_same_bytes(self, kind: Kind, store: Store, root: Path) -> None:
        export = make_order(kind)
        first = make(export, store)
        files = files_below(root)
        assemble(export, store, "jobs/a", lambda _: None)
        assert files_below(root) == files
        (root / "jobs/a" / export.name).unlink()
        assert make(export, store) == first

    @pytest.mark.parametrize("kind", KINDS)
    def test_in_a_bucket(self, kind: Kind, bucket: Store, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same file, also where it is sent in parts: of 5 MiB at least, says S3 of all but the last."""
        export = make_order(kind, (2100, 1900), tile=1024)
        content = make(export, bucket, noise)
        assert content == make(export, store, noise)
        monkeypatch.setattr(object_store, "_PART_BYTES", 5 << 20)
        assert make(export, bucket, noise) == content
        assert kind == "dzi" or len(content) > 5 << 20

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("part", [1 << 10, 8 << 20])
    def test_what_is_stopped_leaves_nothing(
        self, kind: Kind, part: int, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether the file is written at once in the end, or in parts: then some are written already."""
        monkeypatch.setattr(object_store, "_PART_BYTES", part)
        export = make_order(kind)
        keep_tiles(export, store, "jobs/a", pattern)
        before = files_below(root)
        count = 0

        def stop(tiles: int) -> None:
            nonlocal count
            count += tiles
            if count >= 9:
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            assemble(export, store, "jobs/a", stop)
        assert files_below(root) == before

    @pytest.mark.parametrize("kind", ["tiff", "png"])
    @pytest.mark.parametrize("part", [1 << 10, 8 << 20])
    def test_a_missing_tile(
        self, kind: Kind, part: int, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(object_store, "_PART_BYTES", part)
        export = make_order(kind)
        keep_tiles(export, store, "jobs/a", pattern)
        obstore.delete(store, f"jobs/a/{export.tile_name(export.pyramid.tiles - 1)}")
        before = files_below(root)
        with pytest.raises(FileNotFoundError, match="4_2"):
            assemble(export, store, "jobs/a", lambda _: None)
        assert files_below(root) == before

    @pytest.mark.parametrize("kind", ["tiff", "png"])
    def test_stopped_in_a_bucket(self, kind: Kind, bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(object_store, "_PART_BYTES", 5 << 20)
        export = make_order(kind, (2100, 1900), tile=1024)
        keep_tiles(export, bucket, "jobs/a", noise)
        before = names_in(bucket)

        def stop(tiles: int) -> None:
            raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            assemble(export, bucket, "jobs/a", stop)
        assert names_in(bucket) == before

    @pytest.mark.parametrize("kind", ["tiff", "png"])
    @pytest.mark.parametrize("part", [1 << 10, 8 << 20])
    def test_a_full_disk(self, kind: Kind, part: int, store: Store, root: Path) -> None:
        """Files of the child may be no longer than its longest tile; the picture's is."""
        export = make_order(kind)
        keep_tiles(export, store, "jobs/a", pattern)
        before = files_below(root)
        command = [sys.executable, "-m", "tests.service.imaging.full_disk", str(root), export.to_json(), str(part)]
        child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (child.returncode, child.stdout) == (0, "the store failed\n"), child.stderr
        assert files_below(root) == before


def names_in(store: Store) -> set[str]:
    return {found["path"] for part in obstore.list(store) for found in part}
