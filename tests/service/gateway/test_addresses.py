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

HEALTHCHECK = Path(__file__).parents[3] / "docker" / "healthcheck.py"

needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="needs IPv6")


@pytest.mark.parametrize(
    ("host", "answering"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),
        ("localhost", {"127.0.0.1"}),
        pytest.param("::1", {"::1"}, marks=needs_ipv6),
        pytest.param("::", {"127.0.0.1", "::1"}, marks=needs_ipv6),
        pytest.param("[::]", {"127.0.0.1", "::1"}, marks=needs_ipv6),
    ],
)
def test_families(tmp_path: Path, caplog: pytest.LogCaptureFixture, host: str, answering: set[str]) -> None:
    caplog.set_level(logging.INFO)
    with run_gateway(tmp_path, read_settings(Settings, "creps serve", "", ["--host", host])) as gateway:
        port = gateway.http.base_url.port
        answered = set()
        for address in ("127.0.0.1", "::1"):
            try:
                httpx.get(str(httpx.URL(scheme="http", host=address, port=port, path="/")), trust_env=False)
            except httpx.ConnectError:
                continue
            answered.add(address)
        assert answered == answering
        assert subprocess.run([sys.executable, "-I", HEALTHCHECK, str(port), host], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-I", HEALTHCHECK, str(port), host], check=False).returncode == 1
    assert {line.split()[0] for line in caplog.messages if '"GET /" 200' in line} == answering


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("::", 0) as listener:
        assert address_of(listener).startswith("http://0.0.0.0:")
