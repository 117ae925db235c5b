"""``creps dataset``: from images of any kind to a zip that can be trained on, or to one clear line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.archive import MAX_IMAGE_BYTES
from model.data.dataset import ImageDataset
from model.data.prepare import prepare
from model.errors import InputError
from model.util import progress
from service.cli import main
from tests.model.data.images import png_header, write_images, write_zip

EVERYTHING = re.compile("")


@pytest.fixture(autouse=True)
def _no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this process is held up."""
    monkeypatch.setattr(progress, "DELAY", 600.0)


def _source(folder: Path) -> Path:
    folder.mkdir()
    wide = np.zeros((20, 40, 3), dtype=np.uint8)
    wide[:, 10:30] = (255, 0, 0)  # the centred square is red
    Image.fromarray(wide).save(folder / "wide.jpg", quality=100, subsampling=0)
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(folder / "clear.webp", lossless=True)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    for name in ("notes.txt", "a.heic", "b.HEIC"):
        (folder / name).write_text("not a picture")
    return folder


def test_images_are_cropped_and_reduced_and_broken_ones_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    destination = tmp_path / "out" / "set.zip"
    assert main(["dataset", str(_source(tmp_path / "in")), str(destination), "--resolution", "16"]) == 0
    printed = capsys.readouterr()
    assert printed.out == (
        f"{destination}: 2 images of 16², 1 skipped\nleft out, in no known format: 2 .heic, 1 .txt\n"
    )
    assert printed.err == "skipped broken.png: Truncated File Read\n"
    dataset = ImageDataset(destination, 16)
    clear, wide = (dataset[i][0].float().mean(dim=(1, 2)) for i in range(2))
    assert clear.tolist() == [255, 255, 255]
    assert wide[0] > 245
    assert wide[1:].max() < 10


def test_names_are_matched_and_classes_kept(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder", count=4, size=12)
    labels = [[f"{i:03d}.png", i] for i in range(4)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "classes": ["a", "b", "c", "d"]}))
    prepared = prepare(folder, tmp_path / "set.zip", 8, re.compile("00[13]"))
    assert (prepared.written, prepared.skipped) == (2, 0)
    dataset = ImageDataset(tmp_path / "set.zip", 8)
    assert dataset.labels == [1, 3]
    assert dataset.classes == 4
    assert dataset.class_names == ["a", "b", "c", "d"]
    (folder / "new.png").write_bytes((folder / "000.png").read_bytes())
    with pytest.raises(InputError, match=r"source: dataset\.json has no class for new\.png"):
        prepare(folder, tmp_path / "set.zip", 8, EVERYTHING)


@pytest.mark.parametrize("zipped", [False, True])
def test_folders_become_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool) -> None:
    source = tmp_path / "pets"
    write_images(source / "dog", count=2, seed=1)
    write_images(source / "cat" / "grey", count=1, seed=2)
    write_images(source / "ape", count=1, size=4, seed=3)
    write_images(source / ".cache", count=1, seed=4)
    (source / "ape" / "000.png").write_bytes(b"broken")
    (source / "dataset.json").write_text('{"labels": null}')
    if zipped:
        folder, source = source, tmp_path / "pets.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in folder.rglob("*"):
                archive.write(file, file.relative_to(folder))
    destination = tmp_path / "set.zip"
    assert main(["dataset", str(source), str(destination), "--resolution", "8", "--class-folders"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{destination}: 3 images of 8², 1 skipped",
        "class 0 ape: 0 images",
        "class 1 cat: 1 image",
        "class 2 dog: 2 images",
    ]
    dataset = ImageDataset(destination, 8)
    assert dataset.labels == [1, 2, 2]
    assert dataset.classes == 3
    assert dataset.class_names == ["ape", "cat", "dog"]
    with zipfile.ZipFile(destination) as archive:
        assert json.loads(archive.read("dataset.json")) == {
            "labels": [[f"00000/img0000000{i}.png", label] for i, label in enumerate([1, 2, 2])],
            "classes": ["ape", "cat", "dog"],
        }


def test_folders_that_are_no_classes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "pets"
    command = ["dataset", str(source), str(tmp_path / "set.zip"), "--resolution", "8", "--class-folders"]

    def fault() -> str:
        assert main(command) == 2
        return capsys.readouterr().err

    write_images(source / "cat", count=1)
    assert fault() == (
        "creps dataset: error: class-folders: needs images in two or more top-level folders, found only cat\n"
    )
    write_images(source / "dog", count=1)
    write_images(source, count=1)
    assert "class-folders: 000.png is in no folder, so it has no class" in fault()
    (source / "000.png").unlink()
    (source / "dataset.json").write_text('{"labels": [["cat/000.png", 0], ["dog/000.png", 1]]}')
    assert "class-folders: " in (printed := fault())
    assert "already has classes, in dataset.json" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]


def test_a_folder_may_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["dataset", str(_source(tmp_path / "in")), "--resolution", "16x16"]
    assert main([*command, str(tmp_path / "set.zip")]) == 0
    assert main([*command, str(tmp_path / "set")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "set", "set.zip"]
    folder, zipped = ImageDataset(tmp_path / "set", 16), ImageDataset(tmp_path / "set.zip", 16)
    assert folder.names == zipped.names
    assert all((folder[i][0] == zipped[i][0]).all() for i in range(2))
    capsys.readouterr()
    assert main([*command, str(tmp_path / "set")]) == 2
    assert "destination: " in (printed := capsys.readouterr().err)
    assert "is a folder with files" in printed


def test_existing_data_sets_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    destination = tmp_path / "set.zip"
    command = ["dataset", str(_source(tmp_path / "in")), str(destination), "--resolution", "16"]
    destination.write_bytes(b"from before")
    assert main(command) == 2
    assert "set.zip exists already; --overwrite replaces it" in capsys.readouterr().err
    assert destination.read_bytes() == b"from before"
    assert main([*command, "--overwrite"]) == 0
    assert len(ImageDataset(destination, 16)) == 2


def test_whole_images_and_only_the_first(tmp_path: Path) -> None:
    command = ["dataset", str(_source(tmp_path / "in")), str(tmp_path / "set.zip"), "--resolution", "16"]
    assert main([*command, "--pad", "--background", "blue", "--match", "wide"]) == 0
    image = ImageDataset(tmp_path / "set.zip", 16)[0][0].permute(1, 2, 0).numpy().astype(int)
    for rows, columns, colour in (
        (slice(0, 3), slice(None), (0, 0, 255)),
        (slice(13, 16), slice(None), (0, 0, 255)),
        (slice(5, 11), slice(0, 3), (0, 0, 0)),
        (slice(5, 11), slice(6, 10), (255, 0, 0)),
    ):
        assert np.abs(image[rows, columns] - colour).max() <= 40
    source = write_images(tmp_path / "many", count=5)
    assert main(["dataset", str(source), str(tmp_path / "few.zip"), "--resolution", "8", "--max-images", "2"]) == 0
    assert len(ImageDataset(tmp_path / "few.zip", 8)) == 2


def test_the_same_images_make_the_same_zip(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for i in range(40):  # large and small ones in turn, so that threads finish in another order
        Image.new("RGB", (8, 8) if i % 2 else (900, 600), (i, 0, 0)).save(source / f"{i:02d}.png")
    (source / "05.png").write_bytes(b"broken")
    write_images(source / "more", count=3)
    alone = prepare(source, tmp_path / "alone.zip", 8, EVERYTHING, workers=1)
    for file in source.rglob("*.png"):
        os.utime(file, (0, 0))
    together = prepare(source, source / "together.zip", 8, EVERYTHING, workers=3)
    again = prepare(source, source / "together.zip", 8, EVERYTHING)  # which lies in the source by now
    assert alone == together == replace(again, others="")
    assert again.others == "1 .zip"
    assert (alone.written, alone.skipped) == (42, 1)
    content = (tmp_path / "alone.zip").read_bytes()
    assert content == (source / "together.zip").read_bytes()
    dataset = ImageDataset(tmp_path / "alone.zip", 8)
    assert [int(dataset[i][0][0, 0, 0]) for i in range(39)] == [i for i in range(40) if i != 5]
    with zipfile.ZipFile(tmp_path / "alone.zip") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}  # as unzip restores them


def test_bombs_and_strangers_are_skipped_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_images(tmp_path / "folder", count=1)
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (folder / "large.png").write_bytes(png_header(11_600, 11_600))  # Pillow would only warn
    (folder / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    Image.new("F", (8, 8), 1e9).save(folder / "float.tif")
    with (folder / "hole.png").open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)
    prepared = prepare(folder, tmp_path / "set.zip", 8, EVERYTHING)
    assert (prepared.written, prepared.skipped) == (1, 5)
    assert capsys.readouterr().err.splitlines() == [
        "skipped bomb.png: it has more than 134217728 pixels",
        "skipped float.tif: it has 32-bit samples, whose range is unknown",
        "skipped hole.png: it has 268435457 bytes, more than 256 MiB",
        "skipped large.png: it has more than 134217728 pixels",
        "skipped program.png: it is in no known format",
    ]


def test_a_zip_bomb_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_zip(tmp_path / "a.zip", write_images(tmp_path / "folder", count=2))
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("bomb.png", b"\0" * 1000)
        archive.getinfo("bomb.png").file_size = 1 << 40  # as the list at the zip's end will say
    assert prepare(source, tmp_path / "set.zip", 8, EVERYTHING).written == 2
    assert capsys.readouterr().err == "skipped bomb.png: it has 1099511627776 bytes, more than 256 MiB\n"


def test_nothing_is_left_where_nothing_can_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no")
    with pytest.raises(InputError, match="holds no usable image"):
        prepare(folder, tmp_path / "out" / "set.zip", 8, EVERYTHING)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """The system refuses to let a file grow beyond 64 KiB, as it refuses on a full disk."""
    source, out = write_images(tmp_path / "in", count=20, size=64), tmp_path / "out"
    out.mkdir()
    (out / "set.zip").write_bytes(b"from before")
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "bash"]
    command = [sys.executable, "-m", "model.data.prepare", str(source), str(out / "set.zip"), "--resolution", "64"]
    command += ["--overwrite"]
    finished = subprocess.run([*limited, *command], capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 2
    assert finished.stderr.endswith(f"python -m model.data.prepare: error: {out / 'set.zip'}: File too large\n")
    assert [path.name for path in out.iterdir()] == ["set.zip"]
    assert (out / "set.zip").read_bytes() == b"from before"


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    Image.effect_noise((2000, 2000), 50).save(source / "0.png", compress_level=1)
    for i in range(1, 500):
        (source / f"{i}.png").hardlink_to(source / "0.png")
    command = [sys.executable, "-m", "model.data.prepare", str(source), str(out / "set.zip"), "--resolution", "256"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while not out.exists() or not any(path.stat().st_size for path in out.iterdir()):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert printed.endswith("python -m model.data.prepare: interrupted\n")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "a.zip", "--resolution", "16"], "source: nowhere does not exist"),
        ([".", "a.zip", "--resolution", "16"], "source: . holds no image, only 1 .zip"),
        ([".", "a.tar", "--resolution", "16"], "must end in .zip or be a folder"),
        ([".", "a.zip", "--resolution", "16x32"], "--resolution: images are square, not 16x32"),
        ([".", "a.zip", "--resolution", "big"], "--resolution"),
        ([".", "a.zip", "--resolution", "16", "--max-images", "0"], "max-images: must be at least 1"),
        ([".", "folder.zip", "--resolution", "16"], "destination: folder.zip is a folder"),
        (["b.zip", "b.zip", "--resolution", "16"], "destination: b.zip exists already"),
        (["b.zip", "b.zip", "--resolution", "16", "--overwrite"], "destination: b.zip is the source itself"),
        (["b.zip", "b.zip/a.zip", "--resolution", "8"], "b.zip"),
        (["b.zip", "a.zip", "--resolution", "16", "--match", "x"], "holds no image that matches"),
        ([".", "a.zip", "--resolution", "17"], "--resolution"),
        ([".", "a.zip", "--resolution", "16", "--match", "("], "not a regular expression"),
        ([".", "a.zip", "--resolution", "16", "--background", "nocolour"], "background"),
    ],
)
def test_the_command_names_the_fault(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.zip").mkdir()
    images = write_images(tmp_path / ".pictures", count=1)
    before = write_zip(tmp_path / "b.zip", images).read_bytes()
    try:
        status = main(["dataset", *arguments])
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".pictures", "b.zip", "folder.zip"]
    assert (tmp_path / "b.zip").read_bytes() == before
