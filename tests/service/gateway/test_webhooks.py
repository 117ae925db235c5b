"""Webhooks: real messages over HTTP to a receiver that checks them with the specification's own library."""

import asyncio
import ipaddress
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from standardwebhooks import Webhook as Signature
from standardwebhooks import WebhookVerificationError

from model.config import GeneratorConfig
from service.gateway import webhooks
from service.gateway.ssrf import PublicNetwork, is_public
from service.gateway.webhooks import Webhooks
from service.jobs import records
from service.jobs.reconciler import Reconciler
from service.runtime.redis import stop_task
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.gateway.routes.jobs.ordering import call, drawing, remove_jobs
from tests.service.gateway.stand_in import RunningGateway, run_gateway, settings
from tests.service.waiting import eventually

ORDER = {"seed": 7, "width": 64, "height": 64, "tile": 64, "output": "png"}

OLD, NEW = "whsec_" + "b2xk" * 10, "whsec_" + "bmV3" * 10


class Receiver(ThreadingHTTPServer):
    """Answers as ``statuses`` say, 204 after them, and keeps what it was told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.told: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=sesame"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver: Any = self.server
        content = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.told.append((self.path, dict(self.headers), content))
        status = receiver.statuses.pop(0) if receiver.statuses else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


Start = Callable[..., RunningGateway]


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a gateway that sends webhooks, and retries twice within a moment; once for the same settings."""
    running: dict[str, RunningGateway] = {}
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhooks, "POLL_SECONDS", 0.02)
        patch.setattr(webhooks, "RETRY_SECONDS", (0.05, 0.05))

        def start(**values: Any) -> RunningGateway:
            if (key := repr(values)) not in running:
                given = {"webhook_secrets": (SecretStr(OLD), SecretStr(NEW)), "webhook_private": True} | values
                folder = tmp_path_factory.mktemp("models")
                save_hollow_checkpoint(folder, "pattern", GeneratorConfig(32))
                running[key] = stack.enter_context(run_gateway(folder, settings(**given)))
                stack.enter_context(sending(running[key]))
            return running[key]

        yield start


@contextmanager
def sending(gateway: RunningGateway) -> Iterator[None]:
    """The gateway sends webhooks while the block runs."""

    async def start() -> "asyncio.Task[None]":
        return asyncio.create_task(Webhooks(gateway.app_state).run())

    task = call(gateway, start())
    yield
    call(gateway, stop_task(task))


@pytest.fixture
def start(gateways: Start) -> Iterator[Start]:
    """As ``gateways``. Their jobs are removed after the test."""
    used: list[RunningGateway] = []

    def start_one(**values: Any) -> RunningGateway:
        used.append(gateways(**values))
        return used[-1]

    yield start_one
    for gateway in used:
        remove_jobs(gateway)


def order(gateway: RunningGateway, url: str, key: str | None = None, **values: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return gateway.http.post("/v1/jobs", json={**ORDER, "webhook": url, **values}, headers=headers)


def ended(gateway: RunningGateway, url: str, told: str) -> dict[str, Any]:
    """A job that has been drawn, and whose webhook has been told or not."""
    address = order(gateway, url).headers["location"]
    with drawing(gateway):
        asyncio.run(eventually(lambda: gateway.http.get(address).json()["webhook"] == told))
    job: dict[str, Any] = gateway.http.get(address).json()
    return job


def test_the_end_of_a_job_is_told_with_signatures(start: Start, receiver: Receiver) -> None:
    gateway = start()
    job = ended(gateway, receiver.url, "sent")
    ((path, headers, content),) = receiver.told
    assert path == "/hook?token=sesame"
    for secret in (OLD, NEW):  # receivers change from one to the other while both sign
        message = Signature(secret).verify(content, headers)
    del job["webhook"]
    assert message == {"type": "job.succeeded", "timestamp": job["finished"], "data": job}
    assert headers["webhook-id"] == job["id"]
    with pytest.raises(WebhookVerificationError):
        Signature(OLD).verify(content.replace(b"succeeded", b"failed"), headers)


def test_a_job_that_was_cancelled_is_told_too(start: Start, receiver: Receiver) -> None:
    gateway = start()
    gateway.http.delete(order(gateway, receiver.url).headers["location"])
    asyncio.run(eventually(lambda: receiver.told))
    assert json.loads(receiver.told[0][2])["type"] == "job.cancelled"


def test_what_failed_is_tried_again_under_the_same_id(start: Start, receiver: Receiver) -> None:
    receiver.statuses = [500, 302]
    job = ended(start(), receiver.url, "sent")
    assert [path for path, _, _ in receiver.told] == ["/hook?token=sesame"] * 3  # no redirection is followed
    assert {headers["webhook-id"] for _, headers, _ in receiver.told} == {job["id"]}


@pytest.mark.parametrize(("statuses", "attempts"), [([503] * 9, 3), ([410], 1)])
def test_it_is_given_up_in_the_end(
    start: Start,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    statuses: list[int],
    attempts: int,
) -> None:
    receiver.statuses = [*statuses]
    ended(start(), receiver.url, "failed")
    assert len(receiver.told) == attempts
    assert f"status {statuses[0]}" in caplog.text
    assert "sesame" not in caplog.text


def test_nobody_listens(start: Start, receiver: Receiver) -> None:
    receiver.server_close()
    ended(start(), receiver.url, "failed")
    assert receiver.told == []


def test_a_redis_that_forgot_does_not_tell_again(start: Start, receiver: Receiver) -> None:
    gateway = start()
    job = ended(gateway, receiver.url, "sent")
    repository = gateway.app_state.jobs

    async def forget_and_compare() -> None:
        await repository.redis.flushdb()
        await Reconciler(repository, gateway.app_state.outputs, days=1).compare()

    call(gateway, forget_and_compare())
    assert gateway.http.get(f"/v1/jobs/{job['id']}").json()["webhook"] == "sent"
    assert len(receiver.told) == 1


def test_an_unfinished_job_that_redis_forgot_is_told(start: Start, receiver: Receiver) -> None:
    gateway = start()
    address = order(gateway, receiver.url).headers["location"]
    repository = gateway.app_state.jobs

    async def forget_and_compare() -> None:
        await repository.redis.flushdb()
        await Reconciler(repository, gateway.app_state.outputs, days=1).compare()

    call(gateway, forget_and_compare())
    with drawing(gateway):
        asyncio.run(eventually(lambda: receiver.told))
    assert json.loads(receiver.told[0][2])["data"]["links"]["self"] == address


def test_private_addresses_are_not_connected_to(
    start: Start, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start(webhook_private=False)
    port = receiver.server_address[1]
    ended(gateway, f"https://localhost:{port}/", "failed")  # a name, which shows only then what it stands for
    assert "not public" in caplog.text
    assert receiver.told == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/", "https://"),
        ("https://127.0.0.1/", "public"),
        ("https://10.1.2.3/", "public"),
        ("https://0x7f000001/", "public"),
        ("https://169.254.169.254/latest/meta-data", "public"),
        ("https://[::1]/", "public"),
        ("https://[::ffff:10.0.0.1]/", "public"),
        ("https://[64:ff9b::a00:1]/", "public"),
        ("https://[::ffff:0:10.0.0.1]/", "public"),
        ("https://[::10.0.0.1]/", "public"),
        ("https://[fec0::1]/", "public"),
        ("https://user:word@example.org/", "password"),
        ("https://example.org/" + "a" * 2000, "2000"),
        ("ftp://example.org/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("nonsense", "URL"),
    ],
)
def test_what_cannot_be_told_is_refused(start: Start, url: str, reason: str) -> None:
    gateway = start(webhook_private=False)
    answer = order(gateway, url)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "webhook"
    assert reason in error["detail"]
    assert gateway.http.get("/v1/jobs").json()["total"] == 0


def test_without_secrets_there_are_no_webhooks(start: Start) -> None:
    answer = order(start(webhook_secrets=()), "https://example.org/")
    assert answer.status_code == 422
    assert "CREPS_WEBHOOK_SECRETS" in answer.json()["detail"]


def test_the_same_key_with_another_webhook_is_another_order(start: Start, receiver: Receiver) -> None:
    gateway = start()
    first = order(gateway, receiver.url, key="k").json()["id"]
    assert order(gateway, receiver.url, key="k").json()["id"] == first
    assert order(gateway, receiver.url + "&more", key="k").status_code == 422


def test_the_record_keeps_the_webhook(start: Start, receiver: Receiver) -> None:
    gateway = start()
    job = order(gateway, receiver.url).json()["id"]
    kept = call(gateway, records.read_record(gateway.app_state.outputs, job))
    assert kept.webhook is not None
    assert (kept.webhook.url, kept.webhook.base) == (receiver.url, gateway.address)


PRIVATE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10"),
    *("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"),
)


@given(network=st.sampled_from(PRIVATE), offset=st.integers(0, 2**32 - 1))
def test_private_addresses_are_known_however_they_are_written(network: str, offset: int) -> None:
    block = ipaddress.IPv4Network(network)
    address = block[offset % block.num_addresses]
    number = int(address)
    assert not is_public(address)
    assert not is_public(ipaddress.IPv6Address((0xFFFF << 32) + number))  # mapped
    assert not is_public(ipaddress.IPv6Address((0xFFFF << 48) + number))  # translated
    assert not is_public(ipaddress.IPv6Address(number))  # compatible
    assert not is_public(ipaddress.IPv6Address((0xFEC0 << 112) + number))  # site-local
    assert not is_public(ipaddress.IPv6Address((0x64FF9B << 96) + number))  # NAT64
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) + (number << 80)))  # 6to4


def test_public_addresses_are_connected_to() -> None:
    for address in ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"):
        assert is_public(ipaddress.ip_address(address))
    with pytest.raises(OSError, match="not public"):
        asyncio.run(PublicNetwork().connect_tcp("localhost", 1, timeout=5))
