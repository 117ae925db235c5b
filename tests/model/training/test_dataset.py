"""Reading and preparing data sets: folders, zips, labels, broken and oversized files."""

import io
import json
import pickle
import re
import struct
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.errors import InputError
from model.training import prepare
from model.training.dataset import ImageDataset, ShuffledBatches
from service.cli import main
from tests.model.training.pictures import write_pictures, write_zip


def test_a_folder_and_its_zip_hold_the_same(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "folder")
    from_folder, from_zip = ImageDataset(folder, 8), ImageDataset(write_zip(tmp_path / "a.zip", folder), 8)
    assert len(from_folder) == len(from_zip) == 6
    for i in range(6):
        assert (from_folder[i][0] == from_zip[i][0]).all()
        assert from_zip[i][0].shape == (3, 8, 8)


def test_the_second_half_is_mirrored(tmp_path: Path) -> None:
    dataset = ImageDataset(write_pictures(tmp_path), 8, mirror=True)
    assert len(dataset) == 12
    assert (dataset[6 + 2][0] == dataset[2][0].flip(-1)).all()


def test_labels_are_read_and_survive_a_worker_process(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "folder", count=3)
    path = write_zip(tmp_path / "a.zip", folder, {"000.png": 2, "001.png": 0, "002.png": 1})
    dataset = pickle.loads(pickle.dumps(ImageDataset(path, 8)))  # noqa: S301 - as DataLoader hands it to its workers
    assert dataset.classes == 3
    assert [dataset[i][1] for i in range(3)] == [2, 0, 1]


def test_faults_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    folder = write_pictures(tmp_path / "folder")
    for path, message in ((tmp_path / "none", "neither a folder nor a zip"), (empty, "holds no pictures")):
        with pytest.raises(InputError, match=message):
            ImageDataset(path, 8)
    with pytest.raises(InputError, match=r"000\.png is 8×8, not 16×16"):
        ImageDataset(folder, 16)
    with pytest.raises(InputError, match=r"no class for 00000/001\.png"):
        ImageDataset(write_zip(tmp_path / "a.zip", folder, {"000.png": 1}), 8)
    (folder / "000.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"000\.png cannot be read"):
        ImageDataset(folder, 8)


@given(size=st.integers(1, 20), batch=st.integers(1, 9), start=st.integers(0, 60), seed=st.integers(0, 9))
def test_every_epoch_shows_every_picture_once(size: int, batch: int, start: int, seed: int) -> None:
    served = [i for b in islice(ShuffledBatches(size, batch, seed), 60) for i in b]
    for epoch in range(len(served) // size):
        assert sorted(served[epoch * size : (epoch + 1) * size]) == list(range(size))
    resumed = [i for b in islice(ShuffledBatches(size, batch, seed, start), 5) for i in b]
    assert resumed == served[start : start + len(resumed)][: len(resumed)] or start + 5 * batch > len(served)


def _source(folder: Path) -> Path:
    folder.mkdir()
    wide = np.zeros((20, 40, 3), dtype=np.uint8)
    wide[:, 10:30] = (255, 0, 0)  # the centred square is red
    Image.fromarray(wide).save(folder / "wide.jpg", quality=100, subsampling=0)
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(folder / "clear.webp", lossless=True)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_prepare_crops_reduces_and_skips_what_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    destination = tmp_path / "out" / "set.zip"
    assert main(["dataset", str(_source(tmp_path / "in")), str(destination), "--resolution", "16"]) == 0
    printed = capsys.readouterr()
    assert "2 pictures of 16², 1 skipped" in printed.out
    assert "skipped broken.png" in printed.err
    dataset = ImageDataset(destination, 16)
    clear, wide = (dataset[i][0].float().mean(dim=(1, 2)) for i in range(2))
    assert clear.tolist() == [255, 255, 255]
    assert wide[0] > 245
    assert wide[1:].max() < 10


def test_prepare_matches_names_and_keeps_labels(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "folder", count=4, size=12)
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f"{i:03d}.png", i] for i in range(4)]}))
    destination = tmp_path / "set.zip"
    assert prepare.prepare(folder, destination, 8, re.compile("00[13]")) == (2, 0)
    assert ImageDataset(destination, 8).labels == [1, 3]


def test_prepare_leaves_nothing_half_written(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no")
    with pytest.raises(InputError, match="holds no picture that can be used"):
        prepare.prepare(folder, tmp_path / "out" / "set.zip", 8, re.compile(""))
    assert list((tmp_path / "out").iterdir()) == []


def test_prepare_skips_decompression_bombs(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "folder", count=1)
    (folder / "bomb.png").write_bytes(_png_header(60_000, 60_000))
    assert prepare.prepare(folder, tmp_path / "set.zip", 8, re.compile("")) == (1, 1)


def _png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says that it holds so many pixels."""
    buffer = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    buffer.seek(0, io.SEEK_END)
    for kind, content in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 100)),
        (b"IEND", b""),
    ):
        buffer.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "a.zip", "--resolution", "16"], "neither a folder nor a zip"),
        ([".", "a.tar", "--resolution", "16"], "must end in .zip"),
        ([".", "a.zip", "--resolution", "17"], "--resolution"),
        ([".", "a.zip", "--resolution", "16", "--match", "("], "not a regular expression"),
        ([".", "a.zip", "--resolution", "16", "--background", "nocolour"], "background"),
    ],
)
def test_dataset_command_names_the_fault(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["dataset", *arguments])
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert not zipfile.is_zipfile(tmp_path / "a.zip")
