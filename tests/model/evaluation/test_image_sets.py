"""Real and generated images, and the classes of generated ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError
from model.evaluation.image_sets import (
    MAX_BATCH_PIXELS,
    MAX_SIDE,
    GeneratedImages,
    RealImages,
    limit_batch,
    open_dataset,
    sample_classes,
)
from model.viewport import Viewport
from tests.model.data.images import write_images, write_zip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path / "folder", count=6, size=12)


class TestData:
    def test_of_the_first_images_size(self, folder: Path, tmp_path: Path) -> None:
        (folder / ".hidden.png").write_bytes((write_images(tmp_path / "b", 1, 5) / "000.png").read_bytes())
        (folder / "000.txt").write_text("no picture")
        for path in (folder, write_zip(tmp_path / "a.zip", folder)):
            data = open_dataset(path)
            assert (data.resolution, len(data)) == (12, 6)

    def test_images_in_their_order_without_labels(self, folder: Path) -> None:
        real = RealImages(open_dataset(folder))
        assert (len(real), real.side) == (6, 12)
        images = real.make([4, 0, 2])
        for image, name in zip(images, ("004", "000", "002"), strict=True):
            assert image.dtype == torch.uint8
            assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(folder / f"{name}.png")))
        assert torch.equal(real.make([4])[0], images[0])

    def test_what_cannot_be_used(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for path in (tmp_path / "missing", tmp_path / "empty"):
            with pytest.raises(InputError, match="data"):
                open_dataset(path)
        write_images(folder, 1, 9)  # in the place of the first
        with pytest.raises(InputError, match=r"001\.png is 12×12, not 9×9"):
            open_dataset(folder)
        (folder / "000.png").write_bytes(b"")
        with pytest.raises(InputError, match=r"000\.png"):
            open_dataset(folder)

    def test_too_large(self, tmp_path: Path) -> None:
        Image.new("1", (MAX_SIDE + 1, 1)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=f"up to {MAX_SIDE} pixels"):
            open_dataset(tmp_path)


class TestGenerated:
    def test_corner_to_corner_and_cut_to_integers(self) -> None:
        asked: list[Viewport] = []

        def sampler(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.float32]]:
            asked.append(viewport)
            return [np.full((5, 5, 3), [seed + 0.99, 7, 255], dtype=np.float32) for seed in seeds]

        generated = GeneratedImages(sampler, 9, 5)
        assert len(generated) == 9
        images = generated.make([3, 8])
        assert asked == [Viewport.resolve(5, 5, grid="corners")]
        for image, seed in zip(images, (3, 8), strict=True):
            assert torch.equal(image, torch.tensor([seed, 7, 255], dtype=torch.uint8)[:, None, None].expand(3, 5, 5))

    def test_fewer_at_once_where_they_are_large(self) -> None:
        assert limit_batch(32, 64) == 32
        assert limit_batch(32, 1024) == MAX_BATCH_PIXELS // 1024**2 == 16
        assert limit_batch(32, 8192) == 1


class TestClasses:
    def labelled(self, tmp_path: Path, labels: list[int]) -> Path:
        folder = write_images(tmp_path / "labelled", len(labels))
        return write_zip(tmp_path / "a.zip", folder, {f"{i:03d}.png": label for i, label in enumerate(labels)})

    def test_follow_the_data(self, tmp_path: Path) -> None:
        data = open_dataset(self.labelled(tmp_path, [0, 0, 0, 0, 0, 0, 0, 2, 2, 2]))
        classes = sample_classes(4, data, 2000)
        assert classes is not None
        # 1400 are expected, with a standard deviation of 20.
        assert classes.count(0) == pytest.approx(1400, abs=80)
        assert classes.count(0) + classes.count(2) == len(classes) == 2000
        assert sample_classes(4, data, 50) == classes[:50]  # a seed's class does not depend on how many there are
        assert json.loads(json.dumps(classes)) == classes  # plain integers

    def test_in_turn_without_data(self) -> None:
        assert sample_classes(3, None, 7) == [0, 1, 2, 0, 1, 2, 0]

    def test_none_of_an_unconditional_network(self, tmp_path: Path) -> None:
        assert sample_classes(0, open_dataset(self.labelled(tmp_path, [0, 1])), 5) is None

    def test_data_that_does_not_fit(self, tmp_path: Path, folder: Path) -> None:
        with pytest.raises(InputError, match="data: has no classes"):
            sample_classes(3, open_dataset(folder), 5)
        with pytest.raises(InputError, match="data: has 5 classes, but the network only 3"):
            sample_classes(3, open_dataset(self.labelled(tmp_path, [0, 4])), 5)
