"""The catalogue of checkpoints: a real folder that changes."""

import errno
import gc
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from model.checkpoint import FORMAT, FORMAT_VERSION, Checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from service.models.catalog import Catalog
from tests.service.checkpoints import save_hollow_checkpoint

SMALL, LARGE = GeneratorConfig(32), GeneratorConfig(64)


def names(catalog: Catalog) -> list[str]:
    return [checkpoint.name for checkpoint in catalog.models()]


def make(folder: Path) -> Catalog:
    return Catalog(folder, demo=folder / "absent" / "demo.safetensors")


def test_by_name_and_by_digest(tmp_path: Path) -> None:
    save_hollow_checkpoint(tmp_path, "b", SMALL)
    save_hollow_checkpoint(tmp_path, "a", LARGE)
    catalog = make(tmp_path)
    assert names(catalog) == ["a", "b"]
    digest = hashlib.sha256((tmp_path / "b.safetensors").read_bytes()).hexdigest()
    assert catalog.resolve("b") == catalog.resolve(digest)
    assert catalog.resolve("b").config.resolution == SMALL.resolution
    assert catalog.resolve("b").digest == digest


@pytest.mark.parametrize("name", ["c", "", "../a", "a.safetensors", "/etc/passwd", "a\0", "\ud800", "A", "0" * 64])
def test_unknown_names_are_told_the_known_ones(tmp_path: Path, name: str) -> None:
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    with pytest.raises(InputError) as caught:
        make(tmp_path).resolve(name)
    assert caught.value.field == "model"
    assert caught.value.message.endswith("not found; available: a")


def test_a_name_that_is_another_checkpoints_digest_does_not_take_its_place(tmp_path: Path) -> None:
    digest = save_hollow_checkpoint(tmp_path, "a", SMALL).digest
    save_hollow_checkpoint(tmp_path, digest, LARGE)
    assert make(tmp_path).resolve(digest).name == "a"


def test_files_come_change_and_go(tmp_path: Path) -> None:
    catalog = make(tmp_path)
    assert names(catalog) == []
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    before = catalog.resolve("a")
    save_hollow_checkpoint(tmp_path, "a", LARGE)
    after = catalog.resolve("a")
    assert (before.config.resolution, after.config.resolution) == (SMALL.resolution, LARGE.resolution)
    assert before.digest != after.digest
    with pytest.raises(InputError):
        catalog.resolve(before.digest)
    (tmp_path / "a.safetensors").unlink()
    assert names(catalog) == []


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    catalog = make(tmp_path)
    opened: list[Path] = []
    monkeypatch.setattr(Checkpoint, "open", lambda path: opened.append(path))
    catalog.resolve("a")
    catalog.models()
    assert opened == []


def test_bad_files_are_told_once_and_kill_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_hollow_checkpoint(tmp_path, "good", SMALL)
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
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    file = tmp_path / "a.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:40])
    catalog = make(tmp_path)
    assert names(catalog) == []
    file.write_bytes(whole)
    assert names(catalog) == ["a"]


def test_a_bad_file_leaves_the_good_one_whose_place_it_took(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = save_hollow_checkpoint(tmp_path, "a", SMALL).path
    whole = file.read_bytes()
    catalog = make(tmp_path)
    good = catalog.resolve("a")
    (tmp_path / "new").write_bytes(whole[:40])
    (tmp_path / "new").replace(file)
    for _ in range(2):
        kept = catalog.resolve(good.digest)
        assert catalog.resolve("a") is kept
        assert kept.content.read_bytes() == whole  # whoever loads it now gets what was served
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "not a complete safetensors file" in message
    assert message.endswith("still served")
    newer = save_hollow_checkpoint(tmp_path, "a", LARGE)
    assert catalog.resolve("a").digest == newer.digest
    with pytest.raises(InputError):
        catalog.resolve(good.digest)


def test_a_bad_file_is_not_served_for_long_after_it_was_removed(tmp_path: Path) -> None:
    good = save_hollow_checkpoint(tmp_path, "a", SMALL)
    catalog = make(tmp_path)
    good.path.write_bytes(b"bad")
    assert names(catalog) == ["a"]
    good.path.unlink()
    assert names(catalog) == []


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (np.array([np.nan], np.float32), "not finite"),
        (np.arange(1), "is I64 [1], its config requires [1]"),
        (np.zeros(2, np.float32), "is F32 [2], its config requires [1]"),
    ],
)
def test_tensors_that_nothing_can_be_drawn_with_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tensor: NDArray[Any], reason: str
) -> None:
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    catalog = make(tmp_path)
    good = catalog.resolve("a")
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(good.config.to_dict())}
    save_file(load_file(good.path) | {"mapping.w_avg": tensor}, tmp_path / "new", header)
    (tmp_path / "new").replace(good.path)
    assert catalog.resolve("a").digest == good.digest
    assert "tensor 'mapping.w_avg'" in caplog.text
    assert reason in caplog.text


def test_a_file_stays_readable_only_as_long_as_it_is_used(tmp_path: Path) -> None:
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    catalog = make(tmp_path)
    held = catalog.resolve("a")
    content = held.content
    (tmp_path / "a.safetensors").unlink()
    assert names(catalog) == []
    assert content.exists()
    del held
    gc.collect()
    assert not content.exists()


def test_a_volume_that_fails_takes_no_model_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_hollow_checkpoint(tmp_path, "a", SMALL)
    catalog = make(tmp_path)

    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "scandir", fail)
    assert names(catalog) == ["a"]


def test_a_file_that_fails_for_a_moment_is_not_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_hollow_checkpoint(tmp_path, "a", SMALL).path
    catalog = make(tmp_path)
    save_hollow_checkpoint(tmp_path, "b", SMALL)
    stat = Path.stat

    def fail(path: Path, **options: bool) -> os.stat_result:
        if path.parent == tmp_path:
            raise OSError(errno.ESTALE, "Stale file handle")
        return stat(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        assert names(catalog) == ["a"]
    assert names(catalog) == ["a", "b"]
    path.unlink()
    assert names(catalog) == ["b"]


def test_what_is_asked_for_and_not_there_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    digest = save_hollow_checkpoint(tmp_path, "a", SMALL).digest
    catalog = Catalog(folder, demo=tmp_path / "none", refresh=lambda: shutil.copy(tmp_path / "a.safetensors", folder))
    assert names(catalog) == []
    assert catalog.resolve(digest).name == "a"


def test_the_same_size_at_another_time_is_read_again(tmp_path: Path) -> None:
    path = save_hollow_checkpoint(tmp_path, "a", SMALL).path
    catalog = make(tmp_path)
    before = catalog.resolve("a").digest
    path.write_bytes(path.read_bytes().replace(b"CC0", b"MIT"))
    os.utime(path, ns=(1, 1))
    assert catalog.resolve("a").digest != before


def test_the_demo_is_there_unless_the_folder_has_another(tmp_path: Path) -> None:
    (tmp_path / "bundled").mkdir()
    (tmp_path / "folder").mkdir()
    demo = save_hollow_checkpoint(tmp_path / "bundled", "demo", SMALL)
    assert names(Catalog(None, demo=demo.path)) == ["demo"]
    catalog = Catalog(tmp_path / "folder", demo=demo.path)
    assert catalog.resolve("demo").config.resolution == SMALL.resolution
    save_hollow_checkpoint(tmp_path / "folder", "demo", LARGE)
    assert catalog.resolve("demo").config.resolution == LARGE.resolution
    assert names(catalog) == ["demo"]


def test_a_folder_that_disappears(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    save_hollow_checkpoint(folder, "a", SMALL)
    catalog = make(folder)
    shutil.rmtree(folder)
    assert names(catalog) == names(catalog) == []
    assert sum("cannot be read" in record.getMessage() for record in caplog.records) == 1
    folder.mkdir()
    save_hollow_checkpoint(folder, "a", SMALL)
    assert names(catalog) == ["a"]


def test_many_models_are_not_all_listed(tmp_path: Path) -> None:
    for i in range(25):
        save_hollow_checkpoint(tmp_path, f"m{i:02}", SMALL)
    with pytest.raises(InputError, match=r"m00, .*, m19 and 5 more$"):
        make(tmp_path).resolve("absent")
