"""Finished files appear whole; what fails leaves what was there."""

from pathlib import Path

import pytest

from service.imaging.atomic_move import folder_beside, move_deep_zoom, move_file, tiles_folder
from tests.service.jobs.stand_in import files_below


def test_a_folder_beside_is_hidden_and_goes_with_all_in_it(tmp_path: Path) -> None:
    with folder_beside(tmp_path / "a.dzi") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".a.dzi.")
        (folder / "deep" / "down").mkdir(parents=True)
        (folder / "deep" / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_new_folders_go_unless_they_hold_something(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folder_beside(tmp_path / "new/newer/a.dzi"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with folder_beside(tmp_path / "new/newer/a.dzi"):
        (tmp_path / "new" / "file").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "file"]


def test_folders_that_were_there_stay(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with folder_beside(tmp_path / "old/new/a.dzi"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_two_at_a_time(tmp_path: Path) -> None:
    with folder_beside(tmp_path / "a.dzi") as one, folder_beside(tmp_path / "a.dzi") as other:
        assert one != other


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    move_file(tmp_path / "a", tmp_path / "b")
    assert files_below(tmp_path) == {"b": b"new"}


@pytest.mark.parametrize(
    ("output", "folder"),
    [("a.dzi", "a_files"), ("a.b.dzi", "a.b_files"), ("A.DZI", "A_files"), ("x/a.dzi", "x/a_files")],
)
def test_tiles_are_where_viewers_look(output: str, folder: str) -> None:
    """OpenSeadragon, for one, puts ``_files`` in place of ``.dzi``."""
    assert tiles_folder(Path(output)) == Path(folder)


def put(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}_files").mkdir(parents=True)
    (folder / f"{name}_files" / "0_0.png").write_bytes(content)
    (folder / f"{name}.dzi").write_bytes(content)


def place(root: Path) -> None:
    folder = root / ".hidden" / "picture"
    move_deep_zoom(folder / "picture.dzi", folder / "picture_files", root / "a.dzi", aside=root / ".hidden")


def test_a_new_deep_zoom_image(tmp_path: Path) -> None:
    put(tmp_path / ".hidden" / "picture", "picture", b"new")
    place(tmp_path)
    assert files_below(tmp_path) == {"a.dzi": b"new", "a_files/0_0.png": b"new"}


@pytest.mark.parametrize("broken", range(5))
def test_deep_zoom_images_are_replaced_as_a_whole(broken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the four renamings fails, all is as it was; and no descriptor ever stands beside other tiles."""
    put(tmp_path / ".hidden" / "picture", "picture", b"new")
    put(tmp_path, "a", b"old")
    (tmp_path / "a_files" / "9_9.png").write_bytes(b"old")
    before = files_below(tmp_path)
    count = 0
    rename = Path.rename

    def fail_once(path: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == broken:
            raise OSError(28, "No space left on device")
        renamed = rename(path, target)
        visible = files_below(tmp_path)
        if "a.dzi" in visible:
            assert visible["a.dzi"] == visible["a_files/0_0.png"]
        return renamed

    monkeypatch.setattr(Path, "rename", fail_once)
    if broken == 0:
        place(tmp_path)
        after = files_below(tmp_path)
        assert after["a.dzi"] == after["a_files/0_0.png"] == b"new"
        assert "a_files/9_9.png" not in after
    else:
        with pytest.raises(OSError, match="No space"):
            place(tmp_path)
        assert files_below(tmp_path) == before
