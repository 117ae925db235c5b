"""Fixtures of the gateway's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.config import GeneratorConfig
from service.gateway import current_models, shared_metrics
from service.queue import WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import LONG


@pytest.fixture(autouse=True)
def _patience_with_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis or a test process that the system does not run for some seconds is no outage."""
    monkeypatch.setattr(shared_metrics, "PATIENCE", LONG)


@pytest.fixture(scope="session")
def gateway_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(folder, settings(max_image_pixels=1_000_000)) as running:
        yield running


@pytest.fixture
def gateway(gateway_of_session: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> RunningGateway:
    """A gateway for pictures of up to a million pixels, with one worker and the models ``plain`` (32²) and ``kinds``
    (64², three classes), of which the worker holds ``plain``."""
    running = gateway_of_session
    monkeypatch.setattr(current_models, "LOOK_SECONDS", 0.0)  # a change of the files is seen at once
    monkeypatch.setattr(current_models, "WAIT_SECONDS", LONG)
    for file in running.models.iterdir():
        file.unlink()
    plain = save_hollow_checkpoint(running.models, "plain", GeneratorConfig(32))
    kinds = save_hollow_checkpoint(running.models, "kinds", GeneratorConfig(64, classes=3))
    running.checkpoints = {"plain": plain, "kinds": kinds}
    running.queue.__init__()  # type: ignore[misc]
    running.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", (plain.digest,))]
    running.http.headers.pop("X-API-Key", None)
    return running


@pytest.fixture
def bare_gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway with keys, without models and workers."""
    with run_gateway(tmp_path, settings("first-key", "second-key")) as running:
        yield running
