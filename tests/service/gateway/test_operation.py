"""Models, probes, metrics, pages and the description."""

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from model.config import GeneratorConfig
from service.gateway import server
from service.gateway.server import address_of, listen, running_gateway
from service.runtime.embedded_redis import embedded_redis
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.sockets import connected, read_all
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import LONG


@pytest.mark.anyio
async def test_who_watches_a_job_does_not_hold_up_the_end_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DRAIN_TIMEOUT", 10 * LONG)
    save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
    asked = settings(models=tmp_path, outputs=f"file://{tmp_path}/outputs")

    async def fail_while_watched(url: str, listener: socket.socket, http: httpx.AsyncClient) -> None:
        async with running_gateway(asked, url, listener):
            job = (await http.post("/v1/jobs", json={"model": "plain", "seed": 1, "width": 64})).json()["id"]
            stream = await http.send(http.build_request("GET", f"/v1/jobs/{job}/events"), stream=True)
            assert stream.status_code == 200
            raise ZeroDivisionError

    with listen("127.0.0.1", 0) as listener:
        async with (
            embedded_redis() as url,
            httpx.AsyncClient(base_url=address_of(listener), timeout=LONG, trust_env=False) as http,
        ):
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(fail_while_watched(url, listener, http), LONG)


def test_models(gateway: RunningGateway) -> None:
    models = gateway.http.get("/v1/models").json()["models"]
    assert [(model["name"], model["state"]) for model in models] == [("kinds", "available"), ("plain", "loaded")]
    assert models[0] == {
        "name": "kinds",
        "digest": gateway.checkpoints["kinds"].digest,
        "resolution": 64,
        "max_scale": 1.0,
        "classes": 3,
        "class_names": ["ape", "cat", "dog"],
        "styles": 11,
        "state": "available",
        "info": {"licence": "CC0", "file": "kinds", "class_names": ["ape", "cat", "dog"]},
    }
    assert gateway.http.get("/v1/models/kinds").json() == models[0]
    assert gateway.http.get(f"/v1/models/{models[0]['digest']}").json() == models[0]


def test_unknown_model(gateway: RunningGateway) -> None:
    response = gateway.http.get("/v1/models/absent")
    assert response.status_code == 404
    assert response.json()["detail"] == "model: 'absent' not found; available: kinds, plain"


def test_a_bad_file_among_the_models_is_skipped(gateway: RunningGateway) -> None:
    (gateway.models / "bad.safetensors").write_bytes(b"\x80\x04pickle")
    assert [model["name"] for model in gateway.http.get("/v1/models").json()["models"]] == ["kinds", "plain"]
    assert gateway.image("plain/1.png").status_code == 200


def test_probes(gateway: RunningGateway) -> None:
    assert gateway.http.get("/livez").json() == {"status": "alive"}
    ready = gateway.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "checks": {"redis": True, "worker": True}}


def test_not_ready_without_a_worker(gateway: RunningGateway) -> None:
    gateway.queue.alive = []
    response = gateway.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"redis": True, "worker": False}
    assert gateway.http.get("/livez").status_code == 200


def test_ready_for_a_load_balancer_without_a_worker(gateway: RunningGateway) -> None:
    gateway.queue.alive = []
    response = gateway.http.get("/readyz", params={"exclude": "worker"})
    assert response.status_code == 200
    assert response.json()["checks"] == {"redis": True, "worker": False}
    gateway.queue.away = RedisConnectionError("refused")
    assert gateway.http.get("/readyz", params={"exclude": "worker"}).status_code == 503


def test_what_cannot_be_excluded(gateway: RunningGateway) -> None:
    response = gateway.http.get("/readyz", params={"exclude": "redis"})
    assert response.status_code == 422
    assert "exclude" in response.json()["detail"]


def test_not_ready_without_redis(gateway: RunningGateway) -> None:
    gateway.queue.away = RedisConnectionError("refused")
    response = gateway.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"redis": False, "worker": False}
    assert gateway.http.get("/livez").status_code == 200
    assert gateway.http.get("/metrics").status_code == 200


def test_pages_need_nothing_from_elsewhere(gateway: RunningGateway) -> None:
    for page in ("/", "/docs"):
        response = gateway.http.get(page)
        assert response.headers["Content-Type"].startswith("text/html")
        assert "//" not in "".join(re.findall(r'(?:src|href)="([^"]*)"', response.text))
        for path in re.findall(r'<(?:link|script|img)[^>]* (?:src|href)="([^"#]+)"', response.text):
            file = gateway.http.get(f"/{path}")
            assert file.status_code == 200, path
            assert file.headers["Cache-Control"] == "no-cache"
            unchanged = gateway.http.get(f"/{path}", headers={"If-None-Match": file.headers["ETag"]})
            assert unchanged.status_code == 304


@pytest.mark.parametrize(
    "path", ["/nowhere", "/web/absent.js", "/web/..%2Fcli.py", "/web/%2e%2e/cli.py", "/web//etc/passwd", "/v1/models/"]
)
def test_nothing_there(gateway: RunningGateway, path: str) -> None:
    response = gateway.http.get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/v1/images/plain/1.png", "GET, HEAD"), ("GET", "/v1/images", "POST"), ("PUT", "/livez", "GET, HEAD")],
)
def test_method_not_allowed(gateway: RunningGateway, method: str, path: str, allowed: str) -> None:
    response = gateway.http.request(method, path)
    assert response.status_code == 405
    assert response.headers["Allow"] == allowed
    assert response.json()["title"] == "Method Not Allowed"


def test_what_can_be_got_has_a_head(gateway: RunningGateway) -> None:
    for path in gateway.http.get("/openapi.json").json()["paths"]:
        if "GET" in (allowed := gateway.http.put(path).headers["Allow"]):
            assert "HEAD" in allowed, path


def test_the_gateway_runs_without_torch() -> None:
    program = "import sys, service.commands.gateway, service.commands.serve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_answers_are_not_held_back_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_idle_connections_are_kept_as_long_as_asked(tmp_path: Path) -> None:
    assert settings().keep_alive > 60  # for proxies that keep them for a minute
    with run_gateway(tmp_path, settings(keep_alive=1)) as running, connected(running) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 200")


def test_documentation_and_metrics_can_be_switched_off(tmp_path: Path) -> None:
    with run_gateway(tmp_path, settings(docs=False, metrics=False)) as running:
        for path in ("/docs", "/docs/swagger-ui.css", "/openapi.json", "/metrics"):
            response = running.http.get(path)
            assert response.status_code == 404
            assert "/docs" not in response.json()["detail"]
        for path in ("/", "/livez"):
            assert running.http.get(path).status_code == 200
