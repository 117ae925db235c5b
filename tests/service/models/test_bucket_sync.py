"""Copies of a bucket's checkpoints: an S3 behind real HTTP, and a folder that changes."""

import json
import logging
import shutil
from pathlib import Path

import obstore
import pytest

from model.config import GeneratorConfig
from model.errors import InputError
from model.latents.direction_names import read_labels
from service.imaging.object_store import Store, open_store
from service.models import bucket_sync as mirror_module
from service.models.bucket_sync import BucketSync, open_catalog
from service.models.catalog import Catalog
from service.runtime.settings import Settings
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.imaging.conftest import BUCKET, bucket, s3_server  # noqa: F401 - fixtures
from tests.service.waiting import eventually

LIMIT = 10**6


@pytest.fixture
def address(bucket: Store, tmp_path: Path) -> str:  # noqa: F811
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def mirror(address: str, tmp_path: Path) -> BucketSync:
    return BucketSync(address, tmp_path / "cache", LIMIT)


def put(address: str, folder: Path, name: str, resolution: int) -> str:
    """Makes a checkpoint and puts it into the bucket. Returns its digest."""
    checkpoint = save_hollow_checkpoint(folder, name, GeneratorConfig(resolution))
    obstore.put(open_store(address), checkpoint.path.name, checkpoint.path)
    return checkpoint.digest


def served(mirror: BucketSync, tmp_path: Path) -> dict[str, str]:
    return {found.name: found.digest for found in Catalog(mirror.folder, demo=tmp_path / "none").models()}


def visible(mirror: BucketSync) -> set[str]:
    return {file.name for file in mirror.folder.iterdir()}


def test_files_come_change_and_go(mirror: BucketSync, address: str, tmp_path: Path) -> None:
    mirror.refresh()
    assert served(mirror, tmp_path) == {}
    first = {"a": put(address, tmp_path, "a", 32), "b": put(address, tmp_path, "b", 64)}
    obstore.put(open_store(address), "notes.txt", b"not a checkpoint")
    obstore.put(open_store(address), "deeper/c.safetensors", b"none of it")
    mirror.refresh()
    assert served(mirror, tmp_path) == first
    changed = put(address, tmp_path, "a", 128)
    obstore.delete(open_store(address), "b.safetensors")
    mirror.refresh()
    assert served(mirror, tmp_path) == {"a": changed}
    assert visible(mirror) == {"a.safetensors", ".lock", ".index.json"}


def test_names_of_directions_come_and_go_with_their_checkpoint(
    mirror: BucketSync, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest, file = put(address, tmp_path, "a", 32), "a.directions.json"
    obstore.put(open_store(address), file, json.dumps({"model": digest, "names": {"sefa:0": "smile"}}).encode())
    mirror.refresh()
    (checkpoint,) = Catalog(mirror.folder, demo=tmp_path / "none").models()
    assert read_labels(checkpoint) == {"sefa:0": "smile"}
    obstore.put(open_store(address), file, b"{}")
    mirror.refresh()
    assert f"skipped directions: {address}/{file}: " in caplog.text
    assert read_labels(checkpoint) == {"sefa:0": "smile"}
    obstore.delete(open_store(address), file)
    mirror.refresh()
    assert read_labels(checkpoint) == {}


def test_what_is_unchanged_is_not_fetched_again_not_even_by_another_process(
    mirror: BucketSync, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = put(address, tmp_path, "a", 32)
    obstore.put(open_store(address), "bad.safetensors", b"bad")
    mirror.refresh()
    monkeypatch.setattr(obstore, "get", lambda *_: pytest.fail("it was fetched"))
    mirror.refresh()
    other = BucketSync(address, tmp_path / "cache", LIMIT)
    other.refresh()
    assert served(other, tmp_path) == {"a": digest}


def test_a_bad_file_is_refused_once_and_the_good_one_stays(
    mirror: BucketSync, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = put(address, tmp_path, "a", 32)
    mirror.refresh()
    obstore.put(open_store(address), "a.safetensors", b"\x80\x04pickle")
    mirror.refresh()
    mirror.refresh()
    assert served(BucketSync(address, tmp_path / "cache", LIMIT), tmp_path) == {"a": digest}
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{address}/a.safetensors is a pickle" in message
    assert message.endswith("still served")
    newer = put(address, tmp_path, "a", 64)
    mirror.refresh()
    assert served(mirror, tmp_path) == {"a": newer}


def test_copies_are_bounded(address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    digest = put(address, tmp_path, "a", 32)
    size = (tmp_path / "a.safetensors").stat().st_size
    mirror = BucketSync(address, tmp_path / "cache", 2 * size - 1)
    mirror.refresh()
    put(address, tmp_path, "b", 32)
    mirror.refresh()
    mirror.refresh()
    assert served(mirror, tmp_path) == {"a": digest}
    assert sum(f"{size} bytes" in message and f"{size - 1}" in message for message in caplog.messages) == 1
    changed = put(address, tmp_path, "a", 64)  # in the place of the old one
    mirror.refresh()
    assert served(mirror, tmp_path) == {"a": changed}
    obstore.delete(open_store(address), "a.safetensors")
    mirror.refresh()
    assert set(served(mirror, tmp_path)) == {"b"}


def test_what_a_killed_process_left_is_cleared_up_and_what_is_damaged_is_fetched_again(
    mirror: BucketSync, address: str, tmp_path: Path
) -> None:
    digest = put(address, tmp_path, "a", 32)
    mirror.refresh()
    (mirror.folder / ".new-left").mkdir()
    (mirror.folder / ".new-left" / "a.safetensors").write_bytes(b"half")
    (mirror.folder / "a.safetensors").write_bytes(b"half")
    mirror.refresh()
    assert served(mirror, tmp_path) == {"a": digest}
    assert visible(mirror) == {"a.safetensors", ".lock", ".index.json"}


def test_a_cache_that_is_deleted_is_made_anew(mirror: BucketSync, address: str, tmp_path: Path) -> None:
    digest = put(address, tmp_path, "a", 32)
    catalog = Catalog(mirror.folder, demo=tmp_path / "none", refresh=mirror.refresh)
    assert catalog.resolve("a").digest == digest
    shutil.rmtree(tmp_path / "cache")
    assert catalog.models() == []
    assert catalog.resolve("a").digest == digest


def test_a_bucket_that_is_away_takes_no_model_away(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digest = put(address, tmp_path, "a", 32)
    BucketSync(address, tmp_path / "cache", LIMIT).refresh()
    mirror = BucketSync(address, tmp_path / "cache", LIMIT)

    def fail(*_: object) -> None:
        raise PermissionError("Access Denied: secret")

    monkeypatch.setattr(obstore, "list_with_delimiter", fail)
    mirror.refresh()
    mirror.refresh()
    assert served(mirror, tmp_path) == {"a": digest}
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message == f"{address} cannot be copied: Access Denied"


def test_a_cache_that_cannot_be_written_is_told(address: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        BucketSync(address, tmp_path / "file", LIMIT)


@pytest.mark.anyio
async def test_the_catalog_follows_the_bucket(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "REFRESH_SECONDS", 0.05)
    async with open_catalog(Settings(models=address, model_cache=tmp_path / "cache")) as catalog:
        digest = put(address, tmp_path, "late", 32)
        await eventually(lambda: "late" in {found.name for found in catalog.models()})
        assert catalog.resolve("late").digest == digest
        obstore.delete(open_store(address), "late.safetensors")
        await eventually(lambda: "late" not in {found.name for found in catalog.models()})
