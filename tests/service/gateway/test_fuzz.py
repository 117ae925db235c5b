"""Requests made up from the gateway's own OpenAPI description, right ones and wrong ones, over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from requests import Session
from schemathesis import checks

from model.config import GeneratorConfig
from model.latents.direction import Direction, encode_directions
from service.gateway.app import create_app
from service.models.catalog import Catalog
from service.queue.directions import directions_path
from service.queue.messages import WorkerInfo
from service.runtime.redis import connect
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import StandInClient, run_gateway, services_of
from tests.service.gateway.stand_in import settings as gateway_settings

checks.load_all_checks()

CHECKS: Any = checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "allow_header_conformance",
    ]
)

MAX_PIXELS = 40_000

# Requests are made up when a test runs: as a list of tests they would take seconds to collect.
schema = schemathesis.pytest.from_fixture("api")

ORDERS = "/v1/(images|jobs|sheets)$"
"""Paths whose requests have so many fields that making them up takes half a minute."""


@pytest.fixture(scope="module")
def api() -> Any:
    services = services_of(
        gateway_settings(), Catalog(None, demo=Path("none")), StandInClient(), connect("redis://127.0.0.1:1")
    )
    api = schemathesis.openapi.from_dict(create_app(services).openapi())
    rejection = api.config.checks.negative_data_rejection
    rejection.expected_statuses = [*rejection.expected_statuses, "414"]  # of an address that is too long
    return api


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    demo = save_hollow_checkpoint(folder, "demo", GeneratorConfig(32))
    kinds = save_hollow_checkpoint(folder, "kinds", GeneratorConfig(64, classes=3))
    with run_gateway(
        folder, gateway_settings(max_image_pixels=MAX_PIXELS, max_job_pixels=10 * MAX_PIXELS, job_limit=10_000)
    ) as gateway:
        for model in (demo, kinds):  # no worker looks for them
            directions = encode_directions([Direction("sefa:0", (1,), np.ones(1), 1.0)], model.config)
            obstore.put(gateway.app_state.outputs, directions_path(model.digest), directions)
        gateway.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", ())]
        yield gateway.address


@pytest.fixture(scope="module")
def http() -> Iterator[Session]:
    """One connection for thousands of requests."""
    with Session() as session:
        session.trust_env = False  # the environment is not asked for a proxy each time
        yield session


MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@schema.include(method="GET").parametrize()
@MANY
def test_many_made_up_questions(case: schemathesis.Case[Any], address: str, http: Session) -> None:
    case.call_and_validate(base_url=address, session=http, checks=CHECKS)


@pytest.mark.slow
@schema.exclude(method="GET").exclude(method="POST", path_regex=ORDERS).parametrize()
@MANY
def test_many_made_up_changes(case: schemathesis.Case[Any], address: str, http: Session) -> None:
    case.call_and_validate(base_url=address, session=http, checks=CHECKS)


@pytest.mark.slow
@schema.include(method="POST", path_regex=ORDERS).parametrize()
@MANY
def test_many_made_up_orders(case: schemathesis.Case[Any], address: str, http: Session) -> None:
    case.call_and_validate(base_url=address, session=http, checks=CHECKS)
