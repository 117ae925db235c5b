"""The catalogue of checkpoints: a real folder that changes."""

import hashlib
import logging
import os
import shutil
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from service.catalog import Catalog
from tests.service.gateway.stand_in import save_header

SMALL, LARGE = GeneratorConfig(32), GeneratorConfig(64)


def names(catalog: Catalog) -> list[str]:
    return [checkpoint.name for checkpoint in catalog.models()]


def make(folder: Path) -> Catalog:
    return Catalog(folder, demo=folder / "absent" / "demo.safetensors")


def test_by_name_and_by_digest(tmp_path: Path) -> None:
    save_header(tmp_path, "b", SMALL)
    save_header(tmp_path, "a", LARGE)
    catalog = make(tmp_path)
    assert names(catalog) == ["a", "b"]
    digest = hashlib.sha256((tmp_path / "b.safetensors").read_bytes()).hexdigest()
    assert catalog.resolve("b") == catalog.resolve(digest)
    assert catalog.resolve("b").config == SMALL
    assert catalog.resolve("b").digest == digest


@pytest.mark.parametrize("name", ["c", "", "../a", "a.safetensors", "/etc/passwd", "a\0", "\ud800", "A", "0" * 64])
def test_unknown_names_are_told_the_known_ones(tmp_path: Path, name: str) -> None:
    save_header(tmp_path, "a", SMALL)
    with pytest.raises(InputError) as caught:
        make(tmp_path).resolve(name)
    assert caught.value.field == "model"
    assert caught.value.message.endswith("is no model of this service, which has a")


def test_a_name_that_is_another_checkpoints_digest_does_not_take_its_place(tmp_path: Path) -> None:
    digest = save_header(tmp_path, "a", SMALL).digest
    save_header(tmp_path, digest, LARGE)
    assert make(tmp_path).resolve(digest).name == "a"


def test_files_come_change_and_go(tmp_path: Path) -> None:
    catalog = make(tmp_path)
    assert names(catalog) == []
    save_header(tmp_path, "a", SMALL)
    before = catalog.resolve("a")
    save_header(tmp_path, "a", LARGE)
    after = catalog.resolve("a")
    assert (before.config, after.config) == (SMALL, LARGE)
    assert before.digest != after.digest
    with pytest.raises(InputError):
        catalog.resolve(before.digest)
    (tmp_path / "a.safetensors").unlink()
    assert names(catalog) == []


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_header(tmp_path, "a", SMALL)
    catalog = make(tmp_path)
    opened: list[Path] = []
    monkeypatch.setattr(Checkpoint, "open", lambda path: opened.append(path))
    catalog.resolve("a")
    catalog.models()
    assert opened == []


def test_bad_files_are_told_once_and_kill_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_header(tmp_path, "good", SMALL)
    whole = (tmp_path / "good.safetensors").read_bytes()
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04\x95")
    (tmp_path / "short.safetensors").write_bytes(whole[:40])
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "bad name.safetensors").write_bytes(whole)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / ".hidden.safetensors").write_bytes(whole)
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "nowhere")
    catalog = make(tmp_path)
    for _ in range(3):
        assert names(catalog) == ["good"]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 4
    for name in ("pickle", "short", "empty", "bad name"):
        assert sum(f"{name}.safetensors" in line for line in told) == 1


def test_a_bad_file_that_is_mended_is_served(tmp_path: Path) -> None:
    save_header(tmp_path, "a", SMALL)
    file = tmp_path / "a.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:40])
    catalog = make(tmp_path)
    assert names(catalog) == []
    file.write_bytes(whole)
    assert names(catalog) == ["a"]


def test_the_same_size_at_another_time_is_read_again(tmp_path: Path) -> None:
    save_header(tmp_path, "a", SMALL)
    catalog = make(tmp_path)
    before = catalog.resolve("a").digest
    size = (tmp_path / "a.safetensors").stat().st_size
    save_header(tmp_path, "a", LARGE)  # 64 for 32: as long as before
    os.utime(tmp_path / "a.safetensors", ns=(1, 1))
    assert (tmp_path / "a.safetensors").stat().st_size == size
    assert catalog.resolve("a").digest != before


def test_the_demo_is_there_unless_the_folder_has_another(tmp_path: Path) -> None:
    (tmp_path / "bundled").mkdir()
    (tmp_path / "folder").mkdir()
    demo = save_header(tmp_path / "bundled", "demo", SMALL)
    assert names(Catalog(None, demo=demo.path)) == ["demo"]
    catalog = Catalog(tmp_path / "folder", demo=demo.path)
    assert catalog.resolve("demo").config == SMALL
    save_header(tmp_path / "folder", "demo", LARGE)
    assert catalog.resolve("demo").config == LARGE
    assert names(catalog) == ["demo"]


def test_a_folder_that_disappears(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    save_header(folder, "a", SMALL)
    catalog = make(folder)
    shutil.rmtree(folder)
    assert names(catalog) == names(catalog) == []
    assert sum("cannot be read" in record.getMessage() for record in caplog.records) == 1
    folder.mkdir()
    save_header(folder, "a", SMALL)
    assert names(catalog) == ["a"]


def test_many_models_are_not_all_listed(tmp_path: Path) -> None:
    for i in range(25):
        save_header(tmp_path, f"m{i:02}", SMALL)
    with pytest.raises(InputError, match=r"m00, .*, m19 and 5 more$"):
        make(tmp_path).resolve("absent")
