"""What the queue and the workers cannot do becomes a problem that says whether to come back."""

import socket
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.gateway import workers
from service.logs import make_formatter
from service.queue import DeadlinePassed, QueueFull, RenderFailed
from tests.service.gateway.stand_in import RunningGateway


@pytest.mark.parametrize(
    ("failure", "status", "retry", "detail"),
    [
        (QueueFull(7), 429, "7", "the queue is full"),
        (DeadlinePassed("60 s"), 504, None, "not ready in time"),
        (RenderFailed("invalid", "this model has no classes", "class_index"), 422, None, "this model has no classes"),
        (RenderFailed("memory", "too large for this worker"), 503, "5", "too large for this worker"),
        (RenderFailed("unavailable", "the model cannot be loaded"), 503, "5", "the model cannot be loaded"),
        (RenderFailed("failed", "secret detail"), 500, None, "its log tells why"),
        (RedisConnectionError("secret:6379 refused"), 503, "5", "the queue does not answer"),
        (RuntimeError("secret detail"), 500, None, "an error of the service"),
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


def test_an_unexpected_error_is_logged_under_the_id_that_is_told(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caplog.handler, "formatter", make_formatter("text"))
    gateway.queue.failure = RuntimeError("the reason")
    response = gateway.image("plain/1.png")
    request_id = response.headers["X-Request-Id"]
    assert request_id in response.json()["detail"]
    assert f"an unexpected error request_id={request_id}\nTraceback" in caplog.text
    assert "RuntimeError: the reason" in caplog.text


def test_without_workers_pictures_wait_for_one_to_start_and_then_are_refused(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LOOK_SECONDS", 0.0)
    gateway.image("plain/1.png")
    gateway.queue.alive = []
    assert gateway.image("plain/1.png").status_code == 200
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.0)
    response = gateway.image("plain/1.png")
    assert response.status_code == 503
    assert response.json()["detail"] == "no worker is alive"
    assert response.headers["Retry-After"] == "5"


@pytest.mark.parametrize("request_line", ["GET /v1/images/plain/1.png", "POST /v1/images"])
def test_the_picture_of_a_client_that_goes_away_is_cancelled(gateway: RunningGateway, request_line: str) -> None:
    gateway.queue.stuck = True
    body = '{"model": "plain"}' if request_line.startswith("POST") else ""
    url = gateway.http.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        head = f"{request_line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        end = time.monotonic() + 30
        while not gateway.queue.asked:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert not gateway.queue.cancelled.is_set()
    assert gateway.queue.cancelled.wait(30)
