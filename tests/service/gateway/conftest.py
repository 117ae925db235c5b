"""Fixtures of the gateway's tests."""

from collections.abc import Iterator

import pytest

from model.config import GeneratorConfig
from service.gateway import image_cache, model_lookup, redis_metrics
from service.queue.messages import WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import LONG


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis or a test process that the system does not run for some seconds is no outage."""
    monkeypatch.setattr(redis_metrics, "REDIS_TIMEOUT", LONG)
    monkeypatch.setattr(image_cache, "LOOKUP_TIMEOUT", LONG)
    monkeypatch.setattr(image_cache, "STORE_TIMEOUT", LONG)


@pytest.fixture(scope="session")
def gateway_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(folder, settings(max_image_pixels=1_000_000)) as running:
        yield running


@pytest.fixture
def gateway(gateway_of_session: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> RunningGateway:
    """A gateway for images of up to a million pixels, with one worker and the models ``plain`` (32²) and ``kinds``
    (64², the classes ape, cat and dog), of which the worker holds ``plain``."""
    running = gateway_of_session
    monkeypatch.setattr(model_lookup, "REFRESH_SECONDS", 0.0)  # a change of the files is seen at once
    monkeypatch.setattr(model_lookup, "WAIT_SECONDS", LONG)
    for file in running.models.iterdir():
        file.unlink()
    plain = save_hollow_checkpoint(running.models, "plain", GeneratorConfig(32))
    kinds = save_hollow_checkpoint(running.models, "kinds", GeneratorConfig(64, classes=3), ["ape", "cat", "dog"])
    running.checkpoints = {"plain": plain, "kinds": kinds}
    running.queue.__init__()  # type: ignore[misc]
    running.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", (plain.digest,))]
    running.http.headers.pop("X-API-Key", None)
    return running


@pytest.fixture(scope="session")
def bare_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with keys, without models and workers."""
    with run_gateway(tmp_path_factory.mktemp("models"), settings("first-key", "second-key")) as running:
        yield running
