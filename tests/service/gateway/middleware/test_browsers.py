"""What a gateway tells browsers, and which pages of other sites may use it."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config import GeneratorConfig
from service.queue.messages import WorkerInfo
from service.runtime.addresses import parse_origins
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import eventually

ANSWERS = (
    ("GET", "/", 200),
    ("GET", "/web/style.css", 200),
    ("GET", "/docs", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/livez", 200),
    ("GET", "/metrics", 200),
    ("GET", "/v1/models", 200),
    ("GET", "/v1/images/plain/1.png", 200),
    ("GET", "/v1/images/plain/1.png?width=0", 422),
    ("GET", "/iiif/3/plain:1/info.json", 200),
    ("GET", "/nowhere", 404),
    ("POST", "/v1/images", 422),
    ("OPTIONS", "/iiif/3/plain:1/info.json", 204),
)


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_headers_on_every_answer(gateway: RunningGateway, method: str, path: str, status: int) -> None:
    response = gateway.http.request(method, path)
    assert response.status_code == status
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Frame-Options"] == "DENY"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert len(response.headers.get_list("Content-Security-Policy")) == 1
    embedded = path.startswith(("/iiif/", "/v1/images/"))
    assert response.headers["Cross-Origin-Resource-Policy"] == ("cross-origin" if embedded else "same-origin")


def test_an_unexpected_error_has_them_too(gateway: RunningGateway) -> None:
    gateway.queue.failure = RuntimeError("secret detail")
    response = gateway.image("plain/1.png")
    assert response.status_code == 500
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_scripts_of_the_pages_are_our_own(gateway: RunningGateway) -> None:
    for page in ("/", "/docs"):
        policy = gateway.http.get(page).headers["Content-Security-Policy"]
        scripts = re.findall(r"script-src ([^;]*)", policy)[0].split()
        assert scripts[0] == "'self'"
        assert all(source.startswith("'sha256-") for source in scripts[1:])
        assert "base-uri 'none'" in policy


SITE, STRANGER = "https://gallery.example", "https://evil.example"


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One that the pages of SITE may use, with a key."""
    tmp_path = tmp_path_factory.mktemp("models")
    with run_gateway(tmp_path, settings("first-key", cors_origins=f"{SITE}, http://localhost:5173")) as running:
        running.checkpoints["plain"] = save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
        running.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", ())]
        yield running


def test_pages_of_named_sites_may_use_the_api(shared_gateway: RunningGateway) -> None:
    http = shared_gateway.http
    asked = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, idempotency-key",
    }
    preflight = http.options("/v1/jobs", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == SITE
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    for path, headers, status in (
        ("/v1/models", {"X-API-Key": "first-key"}, 200),
        ("/v1/models", {}, 401),
        ("/v1/nowhere", {"X-API-Key": "first-key"}, 404),
    ):
        response = http.get(path, headers={"Origin": SITE, **headers})
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == SITE
        assert "Origin" in response.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in response.headers


def test_pages_of_other_sites_may_not(shared_gateway: RunningGateway, gateway: RunningGateway) -> None:
    asked = {"Origin": STRANGER, "Access-Control-Request-Method": "POST"}
    refused = shared_gateway.http.options("/v1/jobs", headers=asked)
    assert "Access-Control-Allow-Origin" not in refused.headers
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert "Disallowed CORS origin" in refused.json()["detail"]
    for running in (shared_gateway, gateway):
        response = running.http.get("/v1/models", headers={"Origin": STRANGER, "X-API-Key": "first-key"})
        assert response.status_code == 200
        assert "Access-Control-Allow-Origin" not in response.headers
    assert "Access-Control-Allow-Origin" not in gateway.http.get("/v1/models", headers={"Origin": SITE}).headers


@pytest.mark.parametrize(
    ("origin", "method", "status"), [(SITE, "PUT", 400), (SITE, "GET", 200), (STRANGER, "GET", 400)]
)
def test_preflights_are_logged_as_any_request(
    shared_gateway: RunningGateway, caplog: pytest.LogCaptureFixture, origin: str, method: str, status: int
) -> None:
    def lines() -> list[str]:
        return [message for message in caplog.messages if '"OPTIONS /v1/jobs"' in message]

    asked = {"Origin": origin, "Access-Control-Request-Method": method, "X-Request-Id": "preflight-1"}
    with caplog.at_level("INFO", "service.gateway.middleware.access_log"):
        response = shared_gateway.http.options("/v1/jobs", headers=asked)
        asyncio.run(eventually(lines))  # a request is logged once it has been answered
    assert (response.status_code, response.headers["X-Request-Id"]) == (status, "preflight-1")
    (line,) = lines()
    assert f" {status} " in line


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/iiif/3/plain:1/info.json", 200),
        ("/iiif/3/plain:1", 303),
        (f"/v1/jobs/{'0' * 32}/output", 404),
        (f"/v1/jobs/{'0' * 32}/output/picture.dzi", 404),
        (f"/v1/jobs/{'0' * 32}/output/picture_files/0/0_0.png", 404),
    ],
)
def test_viewers_on_all_sites_may_send_their_key(shared_gateway: RunningGateway, path: str, status: int) -> None:
    asked = {
        "Origin": STRANGER,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    preflight = shared_gateway.http.options(path, headers=asked)
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    allowed = shared_gateway.http.get(path, headers={"Origin": STRANGER, "Authorization": "Bearer first-key"})
    refused = shared_gateway.http.get(path, headers={"Origin": STRANGER})
    assert (allowed.status_code, refused.status_code) == (status, 401)
    for response in (preflight, allowed, refused):
        assert response.headers["Access-Control-Allow-Origin"] == "*"


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z.:/,@* ]{0,30}", fullmatch=True))
def test_origins_are_origins_or_refused(text: str) -> None:
    try:
        origins = parse_origins(text)
    except ValueError:
        return
    for origin in origins:
        assert re.fullmatch(r"https?://[^/@*\s]+", origin)
