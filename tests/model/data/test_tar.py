"""Tars of images: what ``creps dataset`` reads of them, and which are refused."""

import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.archive import Archive
from model.data.prepare import prepare
from model.errors import InputError
from service.cli import main
from tests.model.data.images import write_images

FILES = {"b/2.png": b"two", "a/1.PNG": b"one", "a/notes.txt": b"text", "über/3.jpeg": b"three"}
HIDDEN = {".DS_Store": b"x", "a/._1.png": b"x", "__MACOSX/a/1.png": b"x"}
COMPRESSIONS = ["tar", "tar.gz"]


def _write_tar(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


def _link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_names_are_sorted_and_hidden_files_passed_over(tmp_path: Path, suffix: str) -> None:
    folder = tarfile.TarInfo("./b")
    folder.type = tarfile.DIRTYPE
    links = (
        _link("b/4.png", "../a/1.PNG"),
        _link("./b/5.png", "./b/2.png", tarfile.LNKTYPE),
        _link("b/6.png", "4.png"),
        _link("nowhere.png", "none.png"),
        _link("outside.png", "/etc/passwd"),
        _link("circle.png", "circle.png"),
    )
    older = {"./b/2.png": b"older"}
    archive = Archive(_write_tar(tmp_path / f"a.{suffix}", {**older, **HIDDEN, **FILES}, folder, *links))
    found = {name: archive.read(name) for name in archive.names}
    assert list(found) == sorted(found)
    assert found == {**FILES, "b/4.png": b"one", "b/5.png": b"two", "b/6.png": b"one"}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_tar_is_prepared_as_its_folder_is(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "pets"
    write_images(folder / "dog", count=2, size=12, seed=1)
    write_images(folder / "cat", count=1, size=12, seed=2)
    source = tmp_path / f"pets.{suffix}"
    with tarfile.open(source, "w:gz" if suffix == "tar.gz" else "w") as tar:
        tar.add(folder / "dog", "./dog")
        tar.add(folder / "cat", "./cat")
    sets = [tmp_path / "of_folder.zip", tmp_path / "of_tar.zip"]
    for path, destination in zip((folder, source), sets, strict=True):
        assert main(["dataset", str(path), str(destination), "--resolution", "8", "--class-folders"]) == 0
    assert sets[0].read_bytes() == sets[1].read_bytes()
    with zipfile.ZipFile(sets[1]) as written:
        assert len(written.namelist()) == 3 + 1


def _cut_content(content: bytes) -> bytes:
    return content[: content.index(b"three") + 2]


def _cut_header(content: bytes) -> bytes:
    return content[: content.index(b"a/notes.txt") + 40]


def _spoil_header(content: bytes) -> bytes:
    return content.replace(b"a/notes.txt", b"a/notes.TXT")  # its checksum differs


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("spoil", [_cut_content, _cut_header, _spoil_header])
def test_a_broken_tar_is_refused(tmp_path: Path, suffix: str, spoil: Callable[[bytes], bytes]) -> None:
    content = spoil(_write_tar(tmp_path / "whole.tar", FILES).read_bytes())
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == "tar.gz" else content)
    with pytest.raises(InputError, match=rf"data: .*a\.{suffix} is a broken tar: "):
        Archive(path)


def test_a_compressed_tar_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = _write_tar(tmp_path / "a.tar.gz", {"a.png": bytes(range(256)) * 1000})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"data: .*a\.tar\.gz is a broken tar: "):
        Archive(path)


def test_training_asks_for_a_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _write_tar(tmp_path / "a.tar", FILES)
    command = ["train", "--data", str(data), "--outdir", str(tmp_path / "run"), "--preset", "tiny-32"]
    assert main(command) == 2
    expected = f"data: {data} is a tar; creps dataset {data} NEW.zip --resolution 32 prepares images for training\n"
    assert capsys.readouterr().err.endswith(expected)


def test_a_text_in_gzip_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text" * 1000))
    with pytest.raises(InputError, match="is neither a folder nor a zip nor a tar"):
        prepare(tmp_path / "a.gz", tmp_path / "b.zip", 8, re.compile(""))
