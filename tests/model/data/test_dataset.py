"""Reading training data: images and classes out of folders and zips, what is refused, and in which order it comes."""

import json
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from torch.utils.data import DataLoader

from model.data.archive import MAX_IMAGE_BYTES
from model.data.dataset import ImageDataset, shuffled_batches
from model.errors import InputError
from model.util import progress
from tests.model.data.images import png_header, write_images, write_zip


def test_a_folder_and_its_zip_hold_the_same(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder")
    from_folder, from_zip = ImageDataset(folder, 8), ImageDataset(write_zip(tmp_path / "a.zip", folder), 8)
    assert len(from_folder) == len(from_zip) == 6
    for i in range(6):
        assert (from_folder[i][0] == from_zip[i][0]).all()
        assert from_zip[i][0].shape == (3, 8, 8)


def test_the_second_half_is_mirrored(tmp_path: Path) -> None:
    dataset = ImageDataset(write_images(tmp_path), 8, mirror=True)
    assert len(dataset) == 12
    assert (dataset[6 + 2][0] == dataset[2][0].flip(-1)).all()


def test_labels_are_read_and_survive_a_worker_process(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", count=3)
    path = write_zip(tmp_path / "a.zip", folder, {"000.png": 2, "001.png": 0, "002.png": 1, "none.png": 7})
    dataset = pickle.loads(pickle.dumps(ImageDataset(path, 8)))  # noqa: S301 - as DataLoader hands it to its workers
    assert dataset.classes == 3
    assert dataset.class_names == []
    assert [dataset[i][1] for i in range(3)] == [2, 0, 1]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on machines with fewer cores
def test_forked_workers_do_not_disturb_each_other(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", count=40, size=64)
    expected = torch.stack([image for image, _ in (ImageDataset(folder, 64)[i] for i in range(40))])
    dataset = ImageDataset(write_zip(tmp_path / "a.zip", folder), 64)
    dataset[0]  # the zip is open when the workers are forked
    loader = DataLoader(dataset, batch_size=5, num_workers=4, multiprocessing_context="fork")
    assert torch.equal(torch.cat([images for images, _ in loader]), expected)


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", count=40, size=64)
    whole, dataset = ImageDataset(folder, 64), ImageDataset(write_zip(tmp_path / "a.zip", folder), 64)
    with ThreadPoolExecutor(8) as pool:
        for i, (image, _) in enumerate(pool.map(dataset.__getitem__, range(40))):
            assert torch.equal(image, whole[i][0])


def test_faults_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = write_images(tmp_path / "folder")
    for path, message in ((tmp_path / "none", "does not exist"), (empty, "holds no images")):
        with pytest.raises(InputError, match=message):
            ImageDataset(path, 8)
    with pytest.raises(InputError, match=r"no class for 00000/001\.png and 4 other images$"):
        ImageDataset(write_zip(tmp_path / "a.zip", folder, {"000.png": 1}), 8)


@pytest.mark.parametrize("zipped", [False, True])
def test_every_image_that_does_not_fit_is_found_at_once(tmp_path: Path, zipped: bool) -> None:
    folder = write_images(tmp_path / "folder", count=5)

    def open_data(resolution: int) -> ImageDataset:
        return ImageDataset(write_zip(tmp_path / "a.zip", folder) if zipped else folder, resolution)

    with pytest.raises(InputError, match=r"000\.png is 8×8, not 16×16 \(4 others of 5 .*creps dataset"):
        open_data(16)
    Image.new("RGB", (8, 9)).save(folder / "003.png")
    with pytest.raises(InputError, match=r"003\.png is 8×9, not 8×8; creps dataset"):
        open_data(8)
    (folder / "002.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    with pytest.raises(InputError, match=r"002\.png cannot be read as an image: it is in no known format \(1 other"):
        open_data(8)
    (folder / "000.png").write_bytes(png_header(11_000, 11_000))  # Pillow would only warn
    with pytest.raises(InputError, match=r"000\.png is 11000×11000, not 8×8 \(2 others"):
        open_data(8)
    (folder / "000.png").write_bytes(png_header(60_000, 60_000))
    with pytest.raises(InputError, match=r"000\.png .*more than 134217728 pixels \(2 others"):
        open_data(8)


def test_a_file_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    folder = write_images(tmp_path, count=2)
    with (folder / "001.png").open("r+b") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)  # a hole that takes no space on disk
    with pytest.raises(InputError, match=r"001\.png .* 268435457 bytes, more than 256 MiB"):
        ImageDataset(folder, 8)


@pytest.fixture(params=["folder", "zip"])
def spoilt(request: pytest.FixtureRequest, tmp_path: Path) -> ImageDataset:
    """Three images; only the head of the middle one is whole."""
    path = write_images(tmp_path / "folder", count=3, size=64)
    file = path / "001.png"
    spoilt = file
    if request.param == "zip":
        content = file.read_bytes()
        path = spoilt = write_zip(tmp_path / "a.zip", path)
        start = spoilt.read_bytes().index(content)
    else:
        start = 0
    with spoilt.open("r+b") as opened:
        opened.seek(start + 6000)
        opened.write(b"\0" * 1000)
    return ImageDataset(path, 64)


def test_spoilt_pixels_are_named_when_they_are_read(spoilt: ImageDataset) -> None:
    assert spoilt[0][0].shape == spoilt[2][0].shape == (3, 64, 64)
    with pytest.raises(InputError, match=r"^data: .*001\.png cannot be read as an image: ") as error:
        spoilt[1]
    assert "\n" not in str(error.value)
    spoilt.check_pixels(0, 2)  # the first and the last
    for rank, size in ((0, 1), (1, 2)):
        with pytest.raises(InputError, match=r"^data: .*001\.png cannot be read as an image: .*; creps dataset"):
            spoilt.check_pixels(rank, size)


@pytest.mark.parametrize(("terminal", "with_tqdm"), [(True, True), (True, False), (False, True)])
def test_progress_is_a_bar_on_a_terminal_and_plain_lines_elsewhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    with_tqdm: bool,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    folder = write_images(tmp_path)
    monkeypatch.setattr(progress, "DELAY", 600.0)
    ImageDataset(folder, 8)
    assert capsys.readouterr().err == ""  # within the delay nothing is said
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    ImageDataset(folder, 8)
    printed = capsys.readouterr().err
    if terminal and with_tqdm:
        assert "100%" in printed
    else:
        assert printed.splitlines()[-1] == "checking: 5 of 6 img"
        assert printed.replace("\n", "").isprintable()


def _palette(transparency: bytes) -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    if transparency:
        image.info["transparency"] = transparency
    return image


@pytest.mark.parametrize(
    ("name", "image", "colour"),
    [
        ("grey.png", lambda: Image.new("L", (8, 8), 90), (90, 90, 90)),
        ("bits.png", lambda: Image.new("1", (8, 8), 1), (255, 255, 255)),
        ("grey16.png", lambda: Image.fromarray(np.full((8, 8), 257 * 90, np.uint16)), (90, 90, 90)),
        ("grey16.tif", lambda: Image.fromarray(np.full((8, 8), 65535, np.uint16)), (255, 255, 255)),
        ("palette.png", lambda: _palette(b""), (200, 100, 50)),
        ("cmyk.tif", lambda: Image.new("CMYK", (8, 8), (0, 255, 255, 0)), (255, 0, 0)),
    ],
)
def test_every_kind_of_image_comes_as_rgb(
    tmp_path: Path, name: str, image: Callable[[], Image.Image], colour: tuple[int, int, int]
) -> None:
    image().save(tmp_path / name)
    pixels, _ = ImageDataset(tmp_path, 8)[0]
    assert (pixels == torch.tensor(colour)[:, None, None]).all()


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.png", lambda: Image.new("RGBA", (8, 8))),
        ("a.png", lambda: Image.new("LA", (8, 8))),
        ("a.png", lambda: _palette(b"\xff\x80")),
        ("a.webp", lambda: Image.new("RGBA", (8, 8))),
    ],
)
def test_transparent_images_are_refused(tmp_path: Path, name: str, image: Callable[[], Image.Image]) -> None:
    """Their hidden colours are not what anybody has seen."""
    image().save(tmp_path / name)
    command = f"creps dataset {tmp_path} NEW.zip --resolution 8 prepares images for training"
    with pytest.raises(InputError, match=f"data: {name} has transparency; {re.escape(command)}"):
        ImageDataset(tmp_path, 8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_turned_images_are_refused(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1
    Image.new("RGB", (8, 8)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert len(ImageDataset(tmp_path, 8)) == 1
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (8, 8)).save(tmp_path / f"b.{suffix}", exif=exif)
    with pytest.raises(InputError, match=f"b.{suffix} is turned by its EXIF orientation; creps dataset"):
        ImageDataset(tmp_path, 8)


@pytest.mark.parametrize("labels", [[["000.png", [0.2, 0.8]], ["001.png", [1, 0]]], [["000.png", 0]], "none"])
def test_labels_that_are_not_needed_do_not_matter(tmp_path: Path, labels: object) -> None:
    write_images(tmp_path, count=2)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(InputError, match=r"data: dataset\.json"):
        ImageDataset(tmp_path, 8)
    assert ImageDataset(tmp_path, 8, conditional=False).labels == [0, 0]


def test_a_data_set_has_a_digest(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)  # with times of its own
    assert ImageDataset(folder, 8).digest == ImageDataset(tmp_path / "copy", 8, mirror=True).digest
    (folder / "006.png").write_bytes((folder / "005.png").read_bytes())
    assert ImageDataset(folder, 8).digest != ImageDataset(tmp_path / "copy", 8).digest


@given(size=st.integers(1, 20), batch=st.integers(1, 9), start=st.integers(0, 60), seed=st.integers(0, 9))
def test_every_epoch_shows_every_image_once(size: int, batch: int, start: int, seed: int) -> None:
    served = [i for b in islice(shuffled_batches(size, batch, seed), 60) for i in b]
    for epoch in range(len(served) // size):
        assert sorted(served[epoch * size : (epoch + 1) * size]) == list(range(size))
    resumed = [i for b in islice(shuffled_batches(size, batch, seed, start), 5) for i in b]
    assert resumed == served[start : start + len(resumed)][: len(resumed)] or start + 5 * batch > len(served)
