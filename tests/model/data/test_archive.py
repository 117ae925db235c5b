"""Folders and zips from anywhere: which files they hold, which are refused, their classes and their digest."""

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import GeneratorConfig
from model.data.archive import Archive
from model.data.labels import LABELS, MAX_CLASSES, MAX_LABELS_BYTES, Labels, parse_labels
from model.errors import InputError


def _write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED, year: int = 1990) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content, compression)
    return path


FILES = {"b/2.png": b"two", "a/1.PNG": b"one", "a/notes.txt": b"text", "über/3.jpeg": b"three"}
HIDDEN = {".DS_Store": b"x", "a/._1.png": b"x", ".thumbnails/1.png": b"x", "__MACOSX/a/1.png": b"x"}


@pytest.mark.parametrize("zipped", [False, True])
def test_names_are_sorted_and_hidden_files_passed_over(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "data"
    if zipped:
        _write_zip(path, {"b/": b"", **HIDDEN, **FILES})
    else:
        for name, content in {**HIDDEN, **FILES}.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        (path / "link.png").symlink_to("nowhere")
        (path / "b" / "4.png").symlink_to(path / "a" / "1.PNG")
    archive = Archive(path)
    linked = [] if zipped else ["b/4.png"]
    assert archive.names == ["a/1.PNG", "a/notes.txt", "b/2.png", *linked, "über/3.jpeg"]
    assert archive.images == ["a/1.PNG", "b/2.png", *linked, "über/3.jpeg"]
    assert [archive.read(name) for name in archive.names][:3] == [b"one", b"text", b"two"]
    assert all(archive.read(name) == b"one" for name in linked)


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("b/2.png", b"another")


def _encrypt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # as every entry of an encrypted zip is marked
    path.write_bytes(content)


def _pack(path: Path) -> None:
    _write_zip(path, FILES, zipfile.ZIP_BZIP2)


def _break(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x07"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_twice, r"data: .*a\.zip: b/2\.png appears twice"),
        (_encrypt, r"data: .*a\.zip: b/2\.png is encrypted"),
        (_pack, r"data: .*a\.zip: b/2\.png is compressed with something else than deflate"),
        (_break, r"data: .*a\.zip is a broken zip: "),
    ],
)
def test_a_zip_that_cannot_be_trusted_is_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = _write_zip(tmp_path / "a.zip", FILES)
    spoil(path)
    with pytest.raises(InputError, match=message):
        Archive(path)


def test_a_zip_entry_is_not_unpacked_beyond_its_limit(tmp_path: Path) -> None:
    path = _write_zip(tmp_path / "a.zip", {"bomb.png": b"\0" * 5_000_000, "liar.png": b"\0" * 5_000_000}, 8)
    content = path.read_bytes()
    liar = content.rindex(b"liar.png") - 46 + 24  # the unpacked size in the list at the zip's end
    path.write_bytes(content[:liar] + (1000).to_bytes(4, "little") + content[liar + 4 :])
    archive = Archive(path)
    with pytest.raises(ValueError, match="5000000 bytes, more than 1 MiB"):
        archive.read("bomb.png", 1 << 20)
    with pytest.raises(zipfile.BadZipFile):  # it ends after 1000 bytes, with another checksum
        archive.read("liar.png", 1 << 20)


def test_the_digest_of_a_zip_is_that_of_names_sizes_and_checksums(tmp_path: Path) -> None:
    labels = json.dumps({"labels": [["b/2.png", 1], ["a/1.PNG", 0], ["über/3.jpeg", 2]]}).encode()
    files = {**FILES, LABELS: labels}
    lines = [json.dumps([name, len(files[name]), zlib.crc32(files[name])]) + "\n" for name in sorted(files)]
    expected = hashlib.sha256("".join(lines).encode() + labels).hexdigest()
    assert Archive(_write_zip(tmp_path / "a.zip", files)).digest() == expected
    backwards = dict(reversed(files.items()))
    other = _write_zip(tmp_path / "b.zip", {**backwards, **HIDDEN}, zipfile.ZIP_DEFLATED, year=2020)
    assert Archive(other).digest() == expected
    for change in ({"a/1.PNG": b"eno"}, {"c.png": b""}, {LABELS: labels.replace(b"2]]", b"3]]")}):
        assert Archive(_write_zip(tmp_path / "c.zip", {**files, **change})).digest() != expected


def test_the_digest_of_a_folder_is_that_of_names_sizes_and_labels(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    (folder / LABELS).write_bytes(b'{"labels": [["1.png", 3]]}')
    text = f'["1.png", 3, null]\n["{LABELS}", 26, null]\n' + '{"labels": [["1.png", 3]]}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert Archive(folder).digest() == Archive(tmp_path / "copy").digest() == expected
    (folder / LABELS).write_bytes(b'{"labels": [["1.png", 4]]}')
    assert Archive(folder).digest() != expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'\xff\xfe{"labels": []}', "is not UTF-8"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", 'is not {"labels": '),
        (b'{"labels": {"a.png": 0}}', 'is not {"labels": '),
        (b'{"labels": [["a.png"]]}', 'is not {"labels": '),
        (b'{"labels": [[1, 1]]}', 'is not {"labels": '),
        (
            b'{"labels": [["a.png", true]]}',
            r"gives a\.png the class true, not one integer from 0 to 99999 or a one-hot",
        ),
        (b'{"labels": [["a.png", 1.5]]}', "the class 1.5, not one integer"),
        (b'{"labels": [["a.png", "3"]]}', 'the class "3", not one integer'),
        (b'{"labels": [["a.png", -1]]}', "the class -1, not one integer"),
        (b'{"labels": [["a.png", 100000]]}', "the class 100000, not one integer"),
        (b'{"labels": [["a.png", [0.5, 0.5]]]}', r"the class \[0\.5, 0\.5\], not one integer .* or a one-hot vector$"),
        (b'{"labels": [["a.png", [1, 1]]]}', r"the class \[1, 1\], not one integer"),
        (b'{"labels": [["a.png", []]]}', r"the class \[\], not one integer"),
        (b'{"labels": [["a.png", NaN]]}', r"the class NaN, not one integer"),
        (b'{"labels": [["a.png", 1], ["a.png", 2]]}', r"gives a\.png two classes, 1 and 2"),
        (b'{"labels": [["a\\n\\u001b.png", null]]}', r"gives 'a\\n\\x1b\.png' the class null"),
        (b'{"labels": [["a.png", 1]], "classes": {"cat": 0}}', "is not a list of names"),
        (b'{"labels": [["a.png", 1]], "classes": ["cat"]}', "names 1 classes, but has class 1"),
    ],
)
def test_unusable_labels_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / LABELS).write_bytes(content)
    with pytest.raises(InputError, match=f"^data: dataset.json.*{message}") as error:
        Archive(tmp_path).labels()
    assert str(error.value).isprintable()


def test_a_labels_file_of_absurd_size_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / LABELS).open("wb") as file:
        file.truncate(MAX_LABELS_BYTES + 1)  # a hole that takes no space on disk
    with pytest.raises(
        InputError, match=r"data: dataset\.json cannot be read: it has 268435457 bytes, more than 256 MiB"
    ):
        Archive(tmp_path).labels()


@pytest.mark.parametrize("content", [b"{}", b'{"labels": null, "classes": ["cat"]}', b'{"labels": [], "more": 1}'])
def test_a_data_set_may_have_no_classes(content: bytes) -> None:
    assert parse_labels(content, "data") == Labels({}, [])


def test_classes_may_have_names() -> None:
    content = b'\xef\xbb\xbf{"labels": [["a.png", 1]], "classes": ["cat", "dog", "none yet"]}'
    assert parse_labels(content, "data") == Labels({"a.png": 1}, ["cat", "dog", "none yet"])


def test_classes_may_be_floats_and_one_hot_vectors_and_names_windows_paths() -> None:
    content = json.dumps({"labels": [["a\\1.png", [0.0, 0.0, 1.0]], ["a/2.png", [0, 1, 0]], ["b\\3.png", 7.0]]})
    assert parse_labels(content.encode(), "data").by_name == {"a/1.png": 2, "a/2.png": 1, "b/3.png": 7}


def test_names_in_a_zip_may_be_windows_paths(tmp_path: Path) -> None:
    archive = Archive(_write_zip(tmp_path / "a.zip", {"cat\\": b"", "cat\\1.png": b"one", ".git\\2.png": b"two"}))
    assert archive.names == ["cat/1.png"]
    assert archive.read("cat/1.png") == b"one"


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "real" / "cats").mkdir(parents=True)
    (tmp_path / "real" / "cats" / "1.png").write_bytes(b"one")
    (tmp_path / "real" / "cats" / "circle").symlink_to(tmp_path / "data")
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "real")
    archive = Archive(tmp_path / "data")
    assert archive.names == ["a/cats/1.png", "b/cats/1.png"]
    assert archive.read("b/cats/1.png") == b"one"


def test_as_many_classes_as_a_generator_can_have() -> None:
    assert GeneratorConfig(8, classes=MAX_CLASSES).classes == MAX_CLASSES
    with pytest.raises(InputError):
        GeneratorConfig(8, classes=MAX_CLASSES + 1)
    assert parse_labels(b'{"labels": [["a.png", 99999]]}', "data").by_name == {"a.png": MAX_CLASSES - 1}


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["labels", "classes"]), inner),
    max_leaves=12,
)


@given(document=_JSON | st.fixed_dictionaries({"labels": _JSON, "classes": _JSON}))
def test_any_json_is_read_or_refused(document: Any) -> None:
    labels, message = Labels(), ""
    try:
        labels = parse_labels(json.dumps(document).encode(), "data")
    except InputError as error:
        message = str(error)
    assert message.isprintable()
    assert all(type(label) is int and 0 <= label < MAX_CLASSES for label in labels.by_name.values())


@given(
    classes=st.dictionaries(st.text().map(lambda name: name.replace("\\", "/")), st.integers(0, 3), min_size=1),
    names=st.just([]) | st.lists(st.text(), min_size=4, max_size=6),
)
def test_labels_survive_their_file(classes: dict[str, int], names: list[str]) -> None:
    labels = Labels(classes, names)
    assert parse_labels(labels.to_json(), "data") == labels
