"""Responses that clients read slowly, or not at all."""

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from model.config import GeneratorConfig
from service.gateway import iiif_sources, protocol, server
from service.gateway.middleware import concurrency_limit
from service.gateway.responses import InFlightBytes
from service.queue.messages import WorkerInfo
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.sockets import PROBLEM, connected, read_all
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import LONG

MIB = 2**20

ANSWERED_IN_SLICES = ("/v1/images/plain/1.png", "/iiif/3/plain:1/full/max/0/default.png")


@pytest.fixture
def narrow_gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    """40 MiB of images may be in flight. Each has 32, more than the buffers of the system."""
    plain = save_hollow_checkpoint(tmp_path, "plain", GeneratorConfig(32))
    with run_gateway(tmp_path, settings(answer_bytes=40 * MIB)) as gateway:
        gateway.queue.alive = [WorkerInfo("worker-1", "cpu", "idle", (plain.digest,))]
        gateway.queue.content = bytes(32 * MIB)
        yield gateway


@contextmanager
def taking_nothing(gateway: RunningGateway, path: str) -> Iterator[None]:
    """A client that has the beginning of its answer."""
    with connected(gateway) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        yield


def eventually_answers(gateway: RunningGateway, path: str, size: int) -> None:
    end = time.monotonic() + LONG
    while (response := gateway.http.get(path)).status_code != 200:
        assert time.monotonic() < end
    assert len(response.content) == size


def test_a_client_that_reads_nothing_is_disconnected(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SEND_TIMEOUT", 0.2)
    monkeypatch.setattr(concurrency_limit, "MAX_REQUESTS", 1)
    gateway.queue.content = bytes(32 * MIB)  # more than the system's buffers
    with connected(gateway) as connection:
        connection.sendall(b"GET /v1/images/plain/1.png HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        wait_until_idle(gateway)
        assert len(read_all(connection)) < 32 * MIB


def wait_until_idle(gateway: RunningGateway) -> None:
    """Returns once a gateway that takes one request at once takes another."""
    end = time.monotonic() + LONG
    while gateway.http.get("/v1/models").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has this option")
def test_the_system_disconnects_clients_that_read_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those whose response is complete, and waits in the connection's buffer."""
    monkeypatch.setattr(server, "SEND_TIMEOUT", 2.5)
    with server.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


@pytest.mark.parametrize("path", ANSWERED_IN_SLICES)
def test_an_answer_that_nobody_takes_is_under_way(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(concurrency_limit, "MAX_REQUESTS", 1)
    gateway.queue.content = bytes(32 * MIB)  # more than the system takes off our hands
    with connected(gateway) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert gateway.http.get("/v1/models").status_code == 503
    wait_until_idle(gateway)


@pytest.mark.parametrize("path", ANSWERED_IN_SLICES)
def test_while_clients_take_much_nothing_is_drawn_for_others(narrow_gateway: RunningGateway, path: str) -> None:
    with taking_nothing(narrow_gateway, path):
        drawn = len(narrow_gateway.queue.asked)
        response = narrow_gateway.http.get("/v1/images/plain/2.png")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert str(40 * MIB) in response.json()["detail"]
        assert len(narrow_gateway.queue.asked) == drawn
        assert narrow_gateway.http.get("/v1/models").status_code == 200
    eventually_answers(narrow_gateway, path, 32 * MIB)


@pytest.mark.parametrize("path", ANSWERED_IN_SLICES)
def test_more_bytes_of_images_than_allowed_are_not_sent(
    narrow_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Drawn before it was known that they would be so many."""
    monkeypatch.setattr(InFlightBytes, "require_room", lambda _: None)
    with taking_nothing(narrow_gateway, path):
        narrow_gateway.queue.content = bytes(8 * MIB + 1)
        response = narrow_gateway.http.get(path)
        assert (response.status_code, response.headers["Content-Type"]) == (503, PROBLEM.decode())
        narrow_gateway.queue.content = bytes(8 * MIB)
        assert narrow_gateway.http.get(path).status_code == 200
    narrow_gateway.queue.content = bytes(48 * MIB)
    eventually_answers(narrow_gateway, path, 48 * MIB)  # as it is alone


def test_images_that_wait_to_be_turned_count(narrow_gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(iiif_sources, "transform", lambda *_, **__: release.wait(LONG) and b"turned")
    monkeypatch.setattr("imagecodecs.png_decode", lambda _: None)
    try:
        with connected(narrow_gateway) as connection:
            connection.sendall(b"GET /iiif/3/plain:1/full/max/90/default.png HTTP/1.1\r\nHost: x\r\n\r\n")
            end = time.monotonic() + LONG
            while narrow_gateway.http.get("/v1/images/plain/2.png?width=8&height=8").status_code != 503:
                assert time.monotonic() < end
            release.set()
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        release.set()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells the memory of a process so")
@pytest.mark.parametrize("path", ANSWERED_IN_SLICES)
def test_answers_that_nobody_takes_are_not_copied(gateway: RunningGateway, path: str) -> None:
    size, clients = 16 * MIB, 10
    gateway.queue.content = bytes(size)
    before = _resident_bytes()
    with ExitStack() as stack:
        for _ in range(clients):
            connection = stack.enter_context(connected(gateway))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        gateway.http.get("/livez")
        assert _resident_bytes() - before < 2 * size


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_client_that_reads_slowly_gets_all(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "SEND_TIMEOUT", 0.4)
    gateway.queue.content = bytes(32 * MIB)

    def read_slowly() -> int:
        received = 0
        end = time.monotonic() + 1.0
        with connected(gateway) as connection, suppress(ConnectionError):
            connection.sendall(b"GET /v1/images/plain/1.png HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while part := connection.recv(1 << 18):
                received += len(part)
                if time.monotonic() < end:
                    time.sleep(0.05)
        return received

    # On a machine that stalls, any client may look like one that reads nothing, but not each time.
    assert any(read_slowly() > 32 * MIB for _ in range(10))
