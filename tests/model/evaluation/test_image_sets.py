"""Real and drawn pictures, and the classes of drawn ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError
from model.evaluation.pictures import (
    MAX_PIXELS_AT_ONCE,
    MAX_SIDE,
    DrawnPictures,
    RealPictures,
    open_data,
    pick_classes,
    pictures_at_once,
)
from model.viewport import Viewport
from tests.model.training.pictures import write_pictures, write_zip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "folder", count=6, size=12)


class TestData:
    def test_of_the_first_pictures_size(self, folder: Path, tmp_path: Path) -> None:
        (folder / ".hidden.png").write_bytes((write_pictures(tmp_path / "b", 1, 5) / "000.png").read_bytes())
        (folder / "000.txt").write_text("no picture")
        for path in (folder, write_zip(tmp_path / "a.zip", folder)):
            data = open_data(path)
            assert (data.resolution, len(data)) == (12, 6)

    def test_pictures_in_their_order_without_labels(self, folder: Path) -> None:
        real = RealPictures(open_data(folder))
        assert (len(real), real.side) == (6, 12)
        pictures = real.__getitems__([4, 0, 2])
        for picture, name in zip(pictures, ("004", "000", "002"), strict=True):
            assert picture.dtype == torch.uint8
            assert np.array_equal(picture.permute(1, 2, 0), np.asarray(Image.open(folder / f"{name}.png")))
        assert torch.equal(real[4], pictures[0])

    def test_what_cannot_be_used(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for path in (tmp_path / "missing", tmp_path / "empty"):
            with pytest.raises(InputError, match="data"):
                open_data(path)
        write_pictures(folder, 1, 9)  # in the place of the first
        with pytest.raises(InputError, match=r"001\.png is 12×12, not 9×9"):
            open_data(folder)
        (folder / "000.png").write_bytes(b"")
        with pytest.raises(InputError, match=r"000\.png"):
            open_data(folder)

    def test_too_large(self, tmp_path: Path) -> None:
        Image.new("1", (MAX_SIDE + 1, 1)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"up to {MAX_SIDE} pixels"):
            open_data(tmp_path)


class TestDrawn:
    def test_corner_to_corner_and_cut_to_integers(self) -> None:
        asked: list[Viewport] = []

        def draw(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
            asked.append(viewport)
            return [np.full((5, 5, 3), [seed + 0.99, 7, 255], dtype=np.float32) for seed in seeds]

        drawn = DrawnPictures(draw, 9, 5)
        assert len(drawn) == 9
        pictures = drawn.__getitems__([3, 8])
        assert asked == [Viewport.resolve(5, 5, grid="corners")]
        for picture, seed in zip(pictures, (3, 8), strict=True):
            assert torch.equal(picture, torch.tensor([seed, 7, 255], dtype=torch.uint8)[:, None, None].expand(3, 5, 5))

    def test_fewer_at_once_where_they_are_large(self) -> None:
        assert pictures_at_once(64, 32) == 32
        assert pictures_at_once(1024, 32) == MAX_PIXELS_AT_ONCE // 1024**2 == 16
        assert pictures_at_once(8192, 32) == 1


class TestClasses:
    def labelled(self, tmp_path: Path, labels: list[int]) -> Path:
        folder = write_pictures(tmp_path / "labelled", len(labels))
        return write_zip(tmp_path / "a.zip", folder, {f"{i:03d}.png": label for i, label in enumerate(labels)})

    def test_follow_the_data(self, tmp_path: Path) -> None:
        data = open_data(self.labelled(tmp_path, [0, 0, 0, 0, 0, 0, 0, 2, 2, 2]))
        classes = pick_classes(4, data, 2000)
        assert classes is not None
        # 1400 are expected, with a standard deviation of 20.
        assert classes.count(0) == pytest.approx(1400, abs=80)
        assert classes.count(0) + classes.count(2) == len(classes) == 2000
        assert pick_classes(4, data, 50) == classes[:50]  # a seed's class does not depend on how many there are
        assert json.loads(json.dumps(classes)) == classes  # plain integers

    def test_in_turn_without_data(self) -> None:
        assert pick_classes(3, None, 7) == [0, 1, 2, 0, 1, 2, 0]

    def test_none_of_an_unconditional_network(self, tmp_path: Path) -> None:
        assert pick_classes(0, open_data(self.labelled(tmp_path, [0, 1])), 5) is None

    def test_data_that_does_not_fit(self, tmp_path: Path, folder: Path) -> None:
        with pytest.raises(InputError, match="data: has no classes"):
            pick_classes(3, open_data(folder), 5)
        with pytest.raises(InputError, match="data: has 5 classes, but the network only 3"):
            pick_classes(3, open_data(self.labelled(tmp_path, [0, 4])), 5)
