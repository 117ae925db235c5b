"""A gateway that takes jobs. The queue server is real; tests do the drawing."""

from collections.abc import Iterator

import pytest

from model.config import GeneratorConfig
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.routes.jobs.ordering import remove_jobs
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings


@pytest.fixture(scope="module")
def gateway_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(folder, settings(max_job_pixels=2_000_000, job_limit=30)) as running:
        running.checkpoints["pattern"] = save_hollow_checkpoint(folder, "pattern", GeneratorConfig(32))
        yield running


@pytest.fixture
def gateway(gateway_of_module: RunningGateway) -> Iterator[RunningGateway]:
    """One that has no jobs before and after."""
    yield gateway_of_module
    gateway_of_module.queue.alive = []
    remove_jobs(gateway_of_module)
