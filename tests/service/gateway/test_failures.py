"""What the queue and the workers cannot do becomes a problem that says whether to come back."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.gateway import worker_registry
from service.queue.messages import DeadlinePassed, QueueFull, RenderFailed, WorkerInfo
from service.runtime.logs import make_formatter
from tests.service.gateway.sockets import exchange
from tests.service.gateway.stand_in import RunningGateway
from tests.service.waiting import LONG, eventually


@pytest.mark.parametrize(
    ("failure", "status", "retry", "detail"),
    [
        (QueueFull(7), 429, "7", "the queue is full"),
        (DeadlinePassed("60 s"), 504, None, "not ready in time"),
        (RenderFailed("invalid", "this model has no classes", "class_index"), 422, None, "this model has no classes"),
        (RenderFailed("memory", "too large for this worker"), 503, "5", "too large for this worker"),
        (RenderFailed("unavailable", "the model cannot be loaded"), 503, "5", "the model cannot be loaded"),
        (RenderFailed("failed", "secret detail"), 500, None, "see its log"),
        (RedisConnectionError("secret:6379 refused"), 503, "5", "the queue does not answer"),
        (RuntimeError("secret detail"), 500, None, "internal error"),
    ],
)
def test_failures(gateway: RunningGateway, failure: Exception, status: int, retry: str | None, detail: str) -> None:
    gateway.queue.failure = failure
    response = gateway.image("plain/1.png")
    assert response.status_code == response.json()["status"] == status
    assert response.headers.get("Retry-After") == retry
    assert response.headers["Content-Type"] == "application/problem+json"
    assert detail in response.json()["detail"]
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_the_line_of_a_request_has_the_reason_of_an_error(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.queue.failure = RenderFailed("unavailable", "the model\ncannot be loaded")
    with caplog.at_level("INFO", "service.gateway.middleware.access_log"):
        for path in ("/v1/images/plain/1.png", "/nowhere"):
            gateway.http.get(path)

        def lines() -> list[str]:  # a request is logged once it has been answered
            return [record.getMessage() for record in caplog.records if hasattr(record, "problem")]

        asyncio.run(eventually(lambda: len(lines()) == 2))
    image, nowhere = lines()
    assert image.endswith(" ms: the model?cannot be loaded")
    assert "ms: nothing is at this address" in nowhere


def test_offers_of_other_protocols_are_ignored_silently(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    offer = b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 18\r\n"
    offer += b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = exchange(gateway, offer + b'{"model": "plain"}', last)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 200 ") == 2
    assert "upgrade" not in caplog.text.lower()


def test_an_unexpected_error_is_logged_under_the_id_that_is_told(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caplog.handler, "formatter", make_formatter("text"))
    gateway.queue.failure = RuntimeError("the reason")
    response = gateway.image("plain/1.png")
    request_id = response.headers["X-Request-Id"]
    assert request_id in response.json()["detail"]
    assert f"unexpected error request_id={request_id}\nTraceback" in caplog.text
    assert "RuntimeError: the reason" in caplog.text


def test_without_workers_images_wait_for_one_to_start_and_then_are_refused(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_registry, "REFRESH_SECONDS", 0.0)
    gateway.image("plain/1.png")
    gateway.queue.alive = []
    assert gateway.image("plain/1.png").status_code == 200
    monkeypatch.setattr(worker_registry, "NO_WORKER_GRACE", 0.0)
    response = gateway.image("plain/1.png")
    assert response.status_code == 503
    assert response.json()["detail"] == "no worker is alive"
    assert response.headers["Retry-After"] == "5"


def test_images_that_were_late_for_want_of_a_worker(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_registry, "REFRESH_SECONDS", 0.0)
    gateway.queue.alive, gateway.queue.failure = [], DeadlinePassed("60 s")
    response = gateway.image("plain/1.png")
    assert (response.status_code, response.json()["detail"]) == (503, "no worker is alive")


@pytest.mark.parametrize("worker", ["alive", "starting again"])
def test_after_idleness_all_requests_wait_for_one_look_for_workers(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, worker: str
) -> None:
    monkeypatch.setattr(gateway.app_state, "workers", worker_registry.WorkerRegistry(gateway.queue))
    assert gateway.image("plain/1.png").status_code == 200
    later = time.monotonic() + 2 * worker_registry.NO_WORKER_GRACE
    monkeypatch.setattr(worker_registry, "time", SimpleNamespace(monotonic=lambda: later))
    looks = []

    async def look() -> list[WorkerInfo]:
        looks.append(1)
        await asyncio.sleep(0.3)
        return gateway.queue.alive if worker == "alive" else []

    monkeypatch.setattr(gateway.queue, "workers", look)
    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(lambda seed: gateway.image(f"plain/{seed}.png").status_code, range(8)))
    assert statuses == [200] * 8
    assert len(looks) == 1


@pytest.mark.parametrize("request_line", ["GET /v1/images/plain/1.png", "POST /v1/images"])
def test_the_image_of_a_client_that_goes_away_is_cancelled(gateway: RunningGateway, request_line: str) -> None:
    gateway.queue.stuck = True
    body = '{"model": "plain"}' if request_line.startswith("POST") else ""
    url = gateway.http.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        head = f"{request_line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        end = time.monotonic() + LONG
        while not gateway.queue.asked:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert not gateway.queue.cancelled.is_set()
    assert gateway.queue.cancelled.wait(LONG)
