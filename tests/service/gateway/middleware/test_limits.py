"""Requests that are slow, large, many or malformed."""

import socket
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest
from numpy.typing import NDArray

from service.gateway import iiif_sources
from service.gateway.middleware import concurrency_limit, request_limits
from service.gateway.middleware.request_limits import MAX_HEADER_BYTES, MAX_HEADERS, MAX_TARGET
from service.gateway.state import MAX_TRANSFORMS
from service.iiif.request import ResolvedRequest
from service.iiif.transform import transform
from tests.service.gateway.sockets import PROBLEM, assert_closed_while, connected, exchange, read_all
from tests.service.gateway.stand_in import RunningGateway
from tests.service.waiting import LONG

# ---- sizes


def test_an_address_that_is_too_long(gateway: RunningGateway) -> None:
    assert gateway.http.get("/livez?" + "x" * (MAX_TARGET - 20)).status_code == 200
    response = gateway.http.get("/livez?" + "x" * MAX_TARGET)
    assert response.status_code == 414
    assert str(MAX_TARGET) in response.json()["detail"]


def test_too_many_headers(gateway: RunningGateway) -> None:
    assert gateway.http.get("/livez", headers={f"X-{i}": "" for i in range(MAX_HEADERS - 10)}).status_code == 200
    response = gateway.http.get("/livez", headers={f"X-{i}": "" for i in range(MAX_HEADERS + 1)})
    assert response.status_code == 431
    assert f"above the limit of {MAX_HEADERS}" in response.json()["detail"]


def test_headers_that_are_too_long(gateway: RunningGateway) -> None:
    response = gateway.http.get("/livez", headers={"X-Long": "x" * MAX_HEADER_BYTES})
    assert response.status_code == 431
    assert f"above the limit of {MAX_HEADER_BYTES}" in response.json()["detail"]


def test_a_head_without_end_is_not_kept(gateway: RunningGateway) -> None:
    with connected(gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        assert_closed_while(connection, b"X-More: " + b"x" * 10_000 + b"\r\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n",
        b"OPTIONS /v1/jobs HTTP/1.1\r\nHost: x\r\nOrigin: a\r\nAccess-Control-Request-Method: GET\r\n"
        b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\nInjected\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(gateway: RunningGateway, request_bytes: bytes) -> None:
    head, _, body = exchange(gateway, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert b"HTTP/1.1" not in body, "a second request"


@pytest.mark.parametrize("target", ["http://own.example:80", "HTTPS://own.example:80"])
def test_an_absolute_address_counts_with_its_host(gateway: RunningGateway, target: str) -> None:
    end = " HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n"
    answer = exchange(gateway, f"GET {target}/iiif/3/plain%3A7/info.json?a=b{end}".encode())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"http://own.example:80/iiif/3/plain:7"' in answer
    assert exchange(gateway, f"GET {target}{end}".encode()).startswith(b"HTTP/1.1 200 ")
    assert exchange(gateway, f"GET http://user@own.example/{end}".encode()).startswith(b"HTTP/1.1 404 ")


# ---- slow clients


def test_a_body_that_does_not_come(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "BODY_TIMEOUT", 0.2)
    head = b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
    answer = exchange(gateway, head, b'{"model"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert PROBLEM in answer
    assert b"within 0.2 s" in answer


def test_a_body_that_nobody_reads_ends_the_connection(gateway: RunningGateway) -> None:
    with connected(gateway) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 404 ")
        assert_closed_while(connection, b"x")


def test_the_body_of_an_image_at_an_address_is_not_awaited_for_ever(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_limits, "BODY_TIMEOUT", 0.2)
    head = b"GET /v1/images/plain/1.png HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n"
    assert exchange(gateway, head + b"\r\n").startswith(b"HTTP/1.1 408 ")
    assert not gateway.queue.asked, "nothing is rendered before the request is complete"
    monkeypatch.setattr(request_limits, "BODY_TIMEOUT", LONG)
    answer = exchange(gateway, head + b"Connection: close\r\n\r\n", bytes(20))
    assert answer.startswith(b"HTTP/1.1 200 ")


# ---- many clients


def test_more_requests_than_allowed_are_told_to_come_back(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency_limit, "MAX_REQUESTS", 1)
    gateway.queue.stuck = True
    with connected(gateway) as connection:
        connection.sendall(b"GET /v1/images/plain/1.png HTTP/1.1\r\nHost: x\r\n\r\n")
        end = time.monotonic() + LONG
        while not gateway.queue.asked:
            assert time.monotonic() < end
            time.sleep(0.01)
        response = gateway.http.get("/v1/models")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "5"
        assert response.headers["Content-Type"] == PROBLEM.decode()
        assert gateway.http.get("/livez").status_code == 200
    assert gateway.queue.cancelled.wait(LONG)
    end = time.monotonic() + LONG
    while gateway.http.get("/v1/models").status_code != 200:
        assert time.monotonic() < end


def test_no_more_images_are_turned_at_once_than_memory_allows(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where their clients leave: a thread cannot be stopped."""
    lock, release = threading.Lock(), threading.Event()
    under_way = most = 0

    def slow_transform(pixels: NDArray[np.uint8], request: ResolvedRequest, *, turned: bool) -> bytes:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        release.wait(LONG)
        with lock:
            under_way -= 1
        return transform(pixels, request, turned=turned)

    monkeypatch.setattr(iiif_sources, "transform", slow_transform)

    def ask(connection: socket.socket, seed: int) -> None:
        request = f"GET /iiif/3/plain:{seed}/full/max/90/default.png HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        end = time.monotonic() + LONG
        while len(gateway.queue.asked) <= seed or most < min(seed + 1, MAX_TRANSFORMS):
            assert time.monotonic() < end
            time.sleep(0.01)

    try:
        with ExitStack() as stack:
            for seed in range(MAX_TRANSFORMS + 4):
                ask(stack.enter_context(connected(gateway)), seed)
        with ExitStack() as stack:
            connections = [stack.enter_context(connected(gateway)) for _ in range(4)]
            for i, connection in enumerate(connections):
                ask(connection, MAX_TRANSFORMS + 4 + i)
            for _ in range(20):
                gateway.http.get("/livez")
            assert most == MAX_TRANSFORMS
            release.set()
            for connection in connections:
                assert read_all(connection).startswith(b"HTTP/1.1 200 ")
        assert most == MAX_TRANSFORMS
    finally:
        release.set()
