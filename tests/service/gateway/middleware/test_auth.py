"""Keys, bodies and request ids: what is checked before a request is looked at."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.gateway.middleware.request_limits import MAX_BODY
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import LONG

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "first-key"},
        {"X-API-Key": "second-key"},
        {"Authorization": "Bearer second-key"},
        {"Authorization": "bearer first-key"},
    ],
)
def test_either_key_in_either_form(bare_gateway: RunningGateway, headers: dict[str, str]) -> None:
    assert bare_gateway.http.get("/v1/models", headers=headers).json() == {"models": []}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "first-ke"},
        {"X-API-Key": "first-key,second-key"},
        {"X-API-Key": "clé".encode().decode("latin-1")},
        {"Authorization": "Basic first-key"},
        {"Authorization": "Bearer"},
        {"Authorization": "first-key"},
    ],
)
def test_without_a_known_key(bare_gateway: RunningGateway, headers: dict[str, str]) -> None:
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    for request in (("GET", "/v1/models"), ("POST", "/v1/images"), ("GET", "/v1/nowhere")):
        response = bare_gateway.http.request(*request, headers=encoded)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/docs", 200), ("/openapi.json", 200), ("/livez", 200), ("/readyz", 503), ("/metrics", 200)],
)
def test_pages_and_probes_need_no_key(bare_gateway: RunningGateway, path: str, status: int) -> None:
    assert bare_gateway.http.get(path).status_code == status


def test_the_description_tells_of_keys(bare_gateway: RunningGateway) -> None:
    description = bare_gateway.http.get("/openapi.json").json()
    assert description["paths"]["/v1/images"]["post"]["security"] == [{"bearer": []}, {"header": []}]
    assert description["paths"]["/livez"]["get"]["security"] == []
    assert set(description["components"]["securitySchemes"]) == {"bearer", "header"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b"{'a': 1}", b"\xff\xfe{}", b"[" * 60_000, b'{"seed": ' + b"1" * 5000 + b"}"]
)
def test_a_body_that_is_no_json(gateway: RunningGateway, body: bytes) -> None:
    response = gateway.http.post("/v1/images", content=body, headers=JSON)
    assert response.status_code == (400 if body else 422)
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"'])
def test_a_body_that_is_no_object(gateway: RunningGateway, body: bytes) -> None:
    assert gateway.http.post("/v1/images", content=body, headers=JSON).status_code == 422


def test_a_body_that_is_announced_as_too_long_is_not_awaited(gateway: RunningGateway) -> None:
    url = gateway.http.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=LONG) as connection:
        connection.sendall(b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n")
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer


def test_a_body_that_grows_too_long_in_chunks(gateway: RunningGateway) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        yield b'{"model": "plain"'
        for _ in range(count):
            yield b" " * 1000
        yield b"}"

    assert gateway.http.post("/v1/images", content=chunks(500), headers=JSON).status_code == 200
    response = gateway.http.post("/v1/images", content=chunks(530), headers=JSON)
    assert response.status_code == 413
    assert str(MAX_BODY) in response.json()["detail"]


def test_request_ids(gateway: RunningGateway) -> None:
    assert gateway.http.get("/livez", headers={"X-Request-Id": "trace-1.a_B"}).headers["X-Request-Id"] == "trace-1.a_B"
    made = {gateway.http.get("/livez").headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2
    for strange in ("", "two words", "x" * 65, "a;b"):
        assert gateway.http.get("/livez", headers={"X-Request-Id": strange}).headers["X-Request-Id"] != strange


def test_one_log_line_for_each_request(gateway: RunningGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.gateway")
    gateway.http.get("/v1/images/plain/1.png?width=9", headers={"X-Request-Id": "one"})
    gateway.http.get("/a%0Ab%22", headers={"X-Request-Id": "two"})
    gateway.http.get("/web/icon.svg")
    gateway.http.get("/favicon.ico")
    gateway.http.get("/livez")  # a line is written when its answer has been sent: that of the one before is there now
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, "probes and icons are not logged at this level"
    assert lines[0].startswith('127.0.0.1 "GET /v1/images/plain/1.png?width=9" 200 ')
    assert lines[0].endswith(" ms")
    assert lines[1].startswith('127.0.0.1 "GET /a%0Ab%22" 404 ')


def test_the_log_has_route_query_and_short_digest(gateway: RunningGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.gateway")
    gateway.http.get("/v1/images/plain/1.png?psi=0.5&width=9")
    gateway.http.get("/v1/images/plain/1.png?key=creps_secret&width=9&creps_secret")
    gateway.http.get("/v1/jobs?limit=%0A1")
    gateway.http.get("/livez")
    drawn, refused, listed = (vars(record) for record in caplog.records)
    assert drawn["query"] == "psi=0.5&width=9"
    assert drawn["model"] == gateway.checkpoints["plain"].digest[:12]
    assert (refused["status"], refused["query"], refused["path"]) == (422, "width=9", "/v1/images/plain/1.png")
    assert listed["query"] == "limit=%0A1"


def test_a_refused_request_is_logged_with_its_route(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.gateway")
    with run_gateway(tmp_path, settings("first-key")) as running:
        assert running.http.get("/v1/jobs/0/events").status_code == 401
        assert running.http.get("/v1/nothing").status_code == 401
        running.http.get("/livez")
        routes = [vars(record)["route"] for record in caplog.records if "route" in vars(record)]
    assert routes == ["/v1/jobs/{job_id}/events", "unmatched"]
