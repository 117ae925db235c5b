"""Files that are never seen half-written."""

import stat
from pathlib import Path

import pytest

from model.util.files import new_file, write_atomically

LONGEST = 255
"""Bytes of a name on Linux's file systems."""


def test_a_file_takes_the_place_of_the_one_before_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a"
    write_atomically(path, b"first")
    with new_file(path) as file:
        file.write(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a mistake")])
def test_nothing_is_left_of_one_that_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")

    def fail() -> None:
        with new_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


def test_errors_name_the_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("a" * (LONGEST - 10)), b"x")  # the name that it has meanwhile is ten longer
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / ("a" * (LONGEST + 1)), tmp_path / "folder"):
        with pytest.raises(OSError, match=r".") as raised:
            write_atomically(path, b"x")
        assert raised.value.filename == str(path)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(FileNotFoundError) as raised, new_file(tmp_path / "a"):
        other.read_bytes()
    assert raised.value.filename == str(other)
