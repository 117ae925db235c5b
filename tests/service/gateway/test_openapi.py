"""The OpenAPI description is good enough to generate clients from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.imaging.encode import MEDIA_TYPES
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings

OPERATIONS = {
    "POST /v1/images": "drawImage",
    "GET /v1/images/{model}/{seed}.{format}": "getImage",
    "POST /v1/jobs": "createJob",
    "GET /v1/jobs": "listJobs",
    "GET /v1/jobs/{job_id}": "getJob",
    "DELETE /v1/jobs/{job_id}": "deleteJob",
    "GET /v1/jobs/{job_id}/events": "watchJob",
    "GET /v1/jobs/{job_id}/output": "getJobOutput",
    "GET /v1/models": "listModels",
    "GET /v1/models/{name}": "getModel",
}
"""Names of methods in generated clients, which must not change."""


@pytest.fixture
def description(gateway: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.http.get("/openapi.json").json()
    return found


def operations(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


@pytest.mark.parametrize("keys", [(), ("first-key",)])
def test_it_is_valid(tmp_path: Path, keys: tuple[str, ...]) -> None:
    with run_gateway(tmp_path, settings(*keys)) as running:
        description = running.http.get("/openapi.json").json()
    assert description["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(description).iter_errors()] == []
    assert description["servers"] == [{"url": "/"}]
    assert description["info"]["license"]["identifier"] == "Apache-2.0"


def test_every_field_and_limit_is_named(description: dict[str, Any]) -> None:
    schemas = description["components"]["schemas"]
    assert {"Problem", "FieldError", "ImageRequest", "Model", "Models"} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    fields = schemas["ImageRequest"]["properties"]
    assert all("description" in field for field in fields.values())
    assert schemas["ImageRequest"]["additionalProperties"] is False
    get = description["paths"]["/v1/images/{model}/{seed}.{format}"]["get"]
    assert all("description" in parameter for parameter in get["parameters"])
    assert set(get["responses"]["200"]["content"]) == set(MEDIA_TYPES.values())
    assert set(get["responses"]["422"]["content"]) == {"application/problem+json"}


def test_operations_have_names(description: dict[str, Any]) -> None:
    names = {address: operation["operationId"] for address, operation in operations(description)}
    assert len(set(names.values())) == len(names)
    assert names.items() >= OPERATIONS.items()


def test_every_tag_is_described(description: dict[str, Any]) -> None:
    used = {tag for _, operation in operations(description) for tag in operation["tags"]}
    assert {tag["name"] for tag in description["tags"] if tag["description"]} == used


def test_refusals_name_retry_after(description: dict[str, Any]) -> None:
    for _, operation in operations(description):
        for status in {"429", "503"} & operation["responses"].keys():
            assert "Retry-After" in operation["responses"][status]["headers"]


def test_every_json_body_has_an_example(description: dict[str, Any]) -> None:
    """Of its own, or of each of its fields."""
    schemas = description["components"]["schemas"]

    def has_example(schema: dict[str, Any]) -> bool:
        if "$ref" in schema:
            schema = schemas[schema["$ref"].rpartition("/")[2]]
        if {"example", "examples", "const", "default"} & schema.keys():
            return True
        if "items" in schema:
            return has_example(schema["items"])
        return "properties" in schema and all(map(has_example, schema["properties"].values()))

    bodies = [
        (address, content["application/json"]["schema"] | content["application/json"])
        for address, operation in operations(description)
        for content in (
            *(response.get("content", {}) for response in operation["responses"].values()),
            operation.get("requestBody", {}).get("content", {}),
        )
        if "application/json" in content
    ]
    assert [address for address, schema in bodies if not has_example(schema)] == []


def test_events_and_webhooks_are_described(description: dict[str, Any]) -> None:
    events = description["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]
    assert "Progress" in events["description"]
    assert "tiles_done" in description["components"]["schemas"]["Progress"]["properties"]
    posted = description["webhooks"]["job-ended"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert posted == {"$ref": "#/components/schemas/WebhookMessage"}
