"""Folders and buckets: what is there stays, what is deleted is gone, and what cannot be used is named."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import MemoryStore

from model.errors import InputError
from service.imaging import object_store as stores
from service.imaging.object_store import (
    STORE_ERRORS,
    Store,
    delete_folder,
    describe,
    exists,
    open_store,
    put_once,
    sign,
)
from tests.service.jobs.stand_in import files_below
from tests.service.waiting import LONG

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["folder", "bucket", "memory"])
def any_store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    found: Store = request.getfixturevalue({"folder": "store", "bucket": "bucket"}[request.param])
    return found


async def test_the_first_bytes_stay(any_store: Store) -> None:
    assert not await exists(any_store, "a/b.png")
    assert await put_once(any_store, "a/b.png", b"first")
    assert not await put_once(any_store, "a/b.png", b"second, longer")
    assert bytes(obstore.get(any_store, "a/b.png").bytes()) == b"first"
    assert await exists(any_store, "a/b.png")
    assert not await exists(any_store, "a")


def test_a_folder_without_hard_links(root: Path) -> None:
    command = [sys.executable, "-m", "tests.service.imaging.no_hard_links", root.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.stderr == "no seccomp\n":
        pytest.skip(ended.stderr)
    assert (ended.stdout, ended.stderr) == ("True False\n", "")
    assert files_below(root) == {"a/b.png": b"first"}


async def test_all_of_a_folder_is_deleted_and_nothing_else(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["jobs/a/1", "jobs/a/tiles/0/0_0.png", "jobs/a/tiles/1/0_0.png", "jobs/ab/1", "jobs/1"]:
        assert await put_once(any_store, name, b"x")
    monkeypatch.setattr(stores, "_DELETED_AT_ONCE", 2)
    await delete_folder(any_store, "jobs/a")
    assert {found["path"] for part in obstore.list(any_store) for found in part} == {"jobs/ab/1", "jobs/1"}
    await delete_folder(any_store, "jobs/a")


async def test_all_of_a_folder_is_deleted_though_others_delete_in_it(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"{number}.png" for number in range(10)}
    for name in names:
        await put_once(store, f"jobs/a/tiles/{name}", b"x")
    unlink = os.unlink

    def another_was_quicker(path: str, **folder: int) -> None:
        for name in names & {path}:
            names.clear()
            (root / "jobs/a/tiles" / name).unlink()
        unlink(path, **folder)

    monkeypatch.setattr(os, "unlink", another_was_quicker)
    await delete_folder(store, "jobs/a")
    assert not names
    assert not (root / "jobs/a").exists()


async def test_half_written_files_are_deleted_with_their_folder(store: Store, root: Path) -> None:
    await put_once(store, "jobs/a/1", b"x")
    (root / "jobs/a/picture.tiff#1").write_bytes(b"half")  # as a killed writer leaves it
    assert [found["path"] for part in obstore.list(store) for found in part] == ["jobs/a/1"]
    await delete_folder(store, "jobs/a")
    assert not (root / "jobs/a").exists()


@pytest.mark.parametrize("path", ["..", "../a", "a/../../b", "a/..", "./a"])
async def test_paths_that_lead_out_of_the_store(any_store: Store, path: str, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=r"path|folder"):
        await put_once(any_store, path, b"x")
    with pytest.raises(ValueError, match=r"no folder of the store"):
        await delete_folder(any_store, path)
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("folder", ["", "/", "/etc"])
async def test_the_whole_store_is_no_folder(any_store: Store, folder: str) -> None:
    await put_once(any_store, "a", b"x")
    with pytest.raises(ValueError, match="no folder of the store"):
        await delete_folder(any_store, folder)
    assert await exists(any_store, "a")


async def test_signed_links(bucket: Store, store: Store) -> None:
    await put_once(bucket, "a/b.png", b"content")
    link = await sign(bucket, "a/b.png", 60)
    assert link is not None
    assert "X-Amz-Expires=60" in link
    async with httpx.AsyncClient(timeout=LONG) as client:
        assert (await client.get(link)).content == b"content"
    assert await sign(store, "a/b.png", 60) is None
    assert await sign(MemoryStore(), "a/b.png", 60) is None


async def test_a_folder_by_its_address(tmp_path: Path) -> None:
    opened = open_store((tmp_path / "new folder" / "100%").as_uri())
    await put_once(opened, "a", b"x")
    assert files_below(tmp_path) == {"new folder/100%/a": b"x"}


@pytest.mark.parametrize("address", ["s3://", "ftp://host/a", "nonsense", "az://container", "memory://"])
def test_addresses_that_cannot_be_used(address: str) -> None:
    with pytest.raises(InputError) as caught:
        open_store(address)
    assert caught.value.field == "outputs"
    assert address in caught.value.message
    assert "\n" not in caught.value.message


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file" / "a", tmp_path / "file"):
        with pytest.raises(InputError, match=rf"outputs: {folder.as_uri()} cannot be used"):
            open_store(folder.as_uri())


async def test_errors_are_told_without_paths(
    s3_server: str, bucket: Store, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_RETRY_TIMEOUT", timedelta(seconds=1))
    with pytest.raises(STORE_ERRORS) as missing:
        await put_once(open_store("s3://no-such-bucket"), "a", b"x")
    assert describe(missing.value) == "the store failed: NoSuchBucket"
    (root / "a").write_bytes(b"")
    with pytest.raises(STORE_ERRORS) as blocked:
        await put_once(store, "a/b", b"x")
    assert describe(blocked.value).startswith("the store failed: ")
    assert str(root) not in describe(blocked.value)
