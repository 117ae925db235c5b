"""Stores: a folder, and a bucket of S3 behind real HTTP."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from service.imaging.object_store import Store, open_store
from tests.service.waiting import LONG

BUCKET = "pictures"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(root.as_uri())


@pytest.fixture(scope="package")
def s3_server() -> Iterator[str]:
    """The address of an S3 with one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    httpx.put(f"{address}/{BUCKET}", timeout=LONG).raise_for_status()
    yield address
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """A store below a prefix of its own, found by the variables that users set."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return open_store(f"s3://{BUCKET}/{tmp_path.name}")
