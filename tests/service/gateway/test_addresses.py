"""Addresses that a gateway listens on, of both families."""

import logging
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.gateway.server import address_of, listen
from service.runtime.settings import Settings, read_settings
from tests.service.gateway.stand_in import run_gateway
from tests.service.ports import NEEDS_IPV6
from tests.service.waiting import LONG

HEALTHCHECK = Path(__file__).parents[3] / "docker" / "healthcheck.py"


def check(port: int | None, host: str) -> int:
    """The status of the images' health check."""
    return subprocess.run([sys.executable, "-I", HEALTHCHECK, str(port), host], check=False).returncode


@pytest.mark.parametrize(
    ("host", "answering"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("localhost", {"127.0.0.1"}),
        pytest.param("::1", {"::1"}, marks=NEEDS_IPV6),
        pytest.param("::", {"127.0.0.1", "::1"}, marks=NEEDS_IPV6),
        pytest.param("[::]", {"127.0.0.1", "::1"}, marks=NEEDS_IPV6),
    ],
)
def test_families(tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, answering: set[str]) -> None:
    caplog.set_level(logging.INFO)
    with run_gateway(tmp_path, read_settings(Settings, "creps serve", "", ["--host", host])) as gateway:
        port = gateway.http.base_url.port
        answered = set()
        for address in ("127.0.0.1", "::1"):
            try:
                url = httpx.URL(scheme="http", host=address, port=port, path="/")
                httpx.get(url, trust_env=False, timeout=LONG)
            except httpx.ConnectError:
                continue
            answered.add(address)
        assert answered >= answering  # another test's server may have the same port of another family
        # The check waits for four seconds, which a machine that stalls may exceed, but not each time.
        assert any(check(port, host) == 0 for _ in range(5))
    assert check(port, host) == 1
    assert {line.split()[0] for line in caplog.messages if '"GET /" 200' in line} == answering  # by this one


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("::", 0) as listener:
        assert address_of(listener).startswith("http://0.0.0.0:")
