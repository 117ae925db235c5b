"""What processes log: text for people, or one JSON object a line."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.runtime.logs import current_log_context, log_context, make_formatter, merge
from service.runtime.settings import Settings
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.jobs.cluster import Cluster
from tests.service.ports import free_port
from tests.service.stand_in import BREAKS
from tests.service.waiting import LONG, eventually

KEYS = {"time", "level", "logger", "message"}


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("creps", logging.INFO, __file__, 1, message, None, None)


def test_messages_tell_what_they_are_about() -> None:
    text, structured = make_formatter("text"), make_formatter("json")
    with log_context(request_id="one"):
        with log_context(job="two"):
            assert text.format(record("drawn")).endswith("INFO creps: drawn request_id=one job=two")
            found = json.loads(structured.format(record("drawn")))
        assert dict(current_log_context()) == {"request_id": "one"}
    assert found.keys() == KEYS | {"request_id", "job"}
    assert found["time"].endswith("+00:00")
    assert text.format(record("drawn")).endswith(": drawn")
    assert json.loads(structured.format(record("drawn"))).keys() == KEYS


def test_a_line_break_makes_no_second_line() -> None:
    assert "\n" not in make_formatter("json").format(record('one\n{"level": "forged"}'))


def test_a_batch_is_about_all_of_it() -> None:
    assert merge([{"request_id": "a"}, {"job": "j"}, {"request_id": "b"}, {"job": "j"}]) == {
        "request_id": "a,b",
        "job": "j",
    }


def test_what_python_itself_prints_is_json_too() -> None:
    program = (
        "import warnings; from service.runtime.logs import configure_logging\n"
        "configure_logging('info', 'json')\nwarnings.warn('careful')\nraise RuntimeError('the end')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    warning, end = map(json.loads, result.stderr.splitlines())
    assert (warning["logger"], warning["level"]) == ("py.warnings", "WARNING")
    assert "careful" in warning["message"]
    assert end["level"] == "CRITICAL"
    assert "RuntimeError: the end" in end["exception"]
    assert result.returncode == 1


class TestProcesses:
    """A gateway and a worker."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def cluster(self, tmp_path: Path) -> AsyncIterator[Cluster]:
        command = (sys.executable, "-m", "tests.service.stand_in")
        cluster = Cluster(tmp_path, command, {"CREPS_LOG_FORMAT": "json"})
        cluster.worker = (*command, cluster.redis_url, str(cluster.models))
        save_hollow_checkpoint(cluster.models, "plain")
        async with cluster.running("redis", "gateway", "worker-1"):
            yield cluster

    async def test_a_request_has_one_id_from_the_edge_to_the_worker(self, cluster: Cluster) -> None:
        def lines(part: str) -> list[dict[str, Any]]:
            complete, _, _ = (cluster.folder / "logs" / part).read_text().rpartition("\n")
            return [json.loads(line) for line in complete.splitlines()]

        def about(part: str, **fields: str) -> list[dict[str, Any]]:
            return [line for line in lines(part) if fields.items() <= line.items()]

        async with httpx.AsyncClient(base_url=cluster.address, timeout=LONG, trust_env=False) as http:
            for name, seed in (("good", 1), ("bad", BREAKS)):
                await http.get(f"/v1/images/plain/{seed}.png?width=8", headers={"X-Request-Id": name})
            job = (await http.post("/v1/jobs", json={"seed": BREAKS, "width": 64})).json()["id"]
            await eventually(lambda: about("worker-1", job=job, level="ERROR"))
        (request,) = about("gateway", request_id="good")
        assert request.pop("milliseconds") >= 0
        assert len(request.pop("model")) == 12
        assert request.pop("time")
        assert request == {
            "level": "INFO",
            "logger": "service.gateway.middleware.access_log",
            "message": request["message"],
            "request_id": "good",
            "client": "127.0.0.1",
            "method": "GET",
            "path": "/v1/images/plain/1.png",
            "query": "width=8",
            "route": "/v1/images/{model}/{seed}.{format}",
            "status": 200,
            "seed": 1,
        }
        (failure,) = about("worker-1", request_id="bad")
        assert failure["exception"].endswith("RuntimeError: secret detail")
        assert all(line.keys() >= KEYS for part in ("gateway", "worker-1") for line in lines(part))


@pytest.mark.parametrize("log_format", [pytest.param("text", marks=pytest.mark.slow), "json"])
def test_secrets_are_not_logged(tmp_path: Path, log_format: str) -> None:
    secrets = ("key-of-a-client", "password-of-redis", "guessed-key", "collectors-token")
    environment = os.environ | {
        "CREPS_API_KEYS": secrets[0],
        "CREPS_REDIS_URL": f"redis://user:{secrets[1]}@127.0.0.1:1/0",
        "CREPS_LOG_LEVEL": "debug",
        "CREPS_LOG_FORMAT": log_format,
        "CREPS_PORT": str(port := free_port()),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={secrets[3]}",
    }
    command = [sys.executable, "-m", "service", "gateway"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address, transport = f"http://127.0.0.1:{port}", httpx.HTTPTransport(retries=8)  # until it listens
        with httpx.Client(base_url=address, timeout=LONG, transport=transport, trust_env=False) as http:
            statuses = [
                http.get("/v1/images/demo/1.png", headers={"Authorization": f"Bearer {key}"}).status_code
                for key in (secrets[0], secrets[2])
            ]
            http.get("/readyz")
        process.terminate()
        _, told = process.communicate(timeout=LONG)
    finally:
        process.kill()
        process.communicate()
    assert statuses == [503, 401]
    assert "the queue is lost" in told
    assert '"GET /v1/images/demo/1.png" 401' in told.replace('\\"', '"')
    assert not [secret for secret in secrets if secret in told]


def test_settings_themselves_do_not_show_keys() -> None:
    assert "hidden" not in repr(Settings(api_keys="hidden,hidden-too"))  # type: ignore[arg-type]
