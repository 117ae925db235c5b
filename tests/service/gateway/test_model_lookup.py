"""New checkpoints that take long to read: who asks for others does not wait for them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from service.gateway import model_lookup
from service.models import catalog
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway
from tests.service.waiting import LONG


class Disk:
    """Reads no more checkpoints until it is ``released``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self._released = threading.Event(), threading.Event()
        self.reads = 0
        self._open = catalog._open
        monkeypatch.setattr(catalog, "_open", self._read)

    def _read(self, path: Path) -> Checkpoint:
        self.reads += 1
        self.begun.set()
        assert self._released.wait(LONG)
        return self._open(path)

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def disk(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    assert gateway.image("plain/1.png").status_code == 200  # what there is has been read
    monkeypatch.setattr(model_lookup, "WAIT_SECONDS", 0.1)
    disk = Disk(monkeypatch)
    yield disk
    disk.release()
    monkeypatch.setattr(model_lookup, "WAIT_SECONDS", LONG)
    assert gateway.http.get("/v1/models").status_code == 200


def names(gateway: RunningGateway) -> list[str]:
    return [model["name"] for model in gateway.http.get("/v1/models").json()["models"]]


def test_while_a_new_file_is_read_all_else_is_served(gateway: RunningGateway, disk: Disk) -> None:
    save_hollow_checkpoint(gateway.models, "new")
    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(gateway.image, "new/1.png") for _ in range(2)]
        assert disk.begun.wait(LONG)
        assert gateway.image("plain/2.png").status_code == 200
        assert names(gateway) == ["kinds", "plain"]
        assert not any(future.done() for future in asking)
        disk.release()
        assert [future.result(LONG).status_code for future in asking] == [200, 200]
    assert names(gateway) == ["kinds", "new", "plain"]
    assert disk.reads == 1


def test_one_that_comes_while_another_is_read_is_found(gateway: RunningGateway, disk: Disk) -> None:
    save_hollow_checkpoint(gateway.models, "first")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(gateway.image, "first/1.png")
        assert disk.begun.wait(LONG)
        save_hollow_checkpoint(gateway.models, "second")
        second = threads.submit(gateway.image, "second/1.png")
        disk.release()
        assert (first.result(LONG).status_code, second.result(LONG).status_code) == (200, 200)


def test_a_look_that_fails_is_logged_and_takes_nothing_away(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert names(gateway) == ["kinds", "plain"]
    with monkeypatch.context() as broken:
        broken.setattr(catalog.Catalog, "models", lambda _: 1 // 0)
        assert names(gateway) == ["kinds", "plain"]
        assert gateway.image("plain/1.png").status_code == 200
    assert "listing the checkpoints failed" in caplog.text
    assert names(gateway) == ["kinds", "plain"]
