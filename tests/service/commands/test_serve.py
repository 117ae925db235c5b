"""``creps serve`` in a process of its own, with real HTTP and rendering."""

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from anyio import to_thread
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint, save_checkpoint
from model.config import GeneratorConfig
from model.generator import Generator
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from tests.service.ports import free_port
from tests.service.waiting import LONG, eventually, is_running

ONE_SERVICE = pytest.mark.xdist_group("creps serve")
"""Of tests that share a service, which takes seconds to start."""

TINY = GeneratorConfig(16, z_dim=8, w_dim=8, mapping_layers=1, channel_base=256, channel_max=16, thickness=2)


@dataclass
class Served:
    process: subprocess.Popen[str]
    http: httpx.Client

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def worker(self) -> int:
        return next(pid for pid in self.children() if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())

    def wait_until_ready(self) -> None:
        end = time.monotonic() + LONG
        while self.http.get("/readyz").status_code != 200:
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < end, "it does not become ready"
            time.sleep(0.05)

    def wait_until_busy(self, answer: "Future[httpx.Response]") -> None:
        """Returns once the image is queued or rendered, or on a slow machine, answered."""
        end = time.monotonic() + LONG
        while 'creps_queue_depth{stream="pictures"} 1.0' not in self.http.get("/metrics").text and not answer.done():
            assert time.monotonic() < end, "nothing is drawn"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service", *arguments]


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    kept = ("CREPS_OUTPUTS", "CREPS_NATIVE")  # one set by conftest.py, and one that this process has, too
    environment = {name: text for name, text in os.environ.items() if name in kept or not name.startswith("CREPS_")}
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def serve(models: Path, *, program: str = "serve", options: tuple[str, ...] = ("--device", "cpu")) -> Iterator[Served]:
    port = free_port()
    patience = 4 * LONG  # the first image waits until kernels are compiled
    options = (*options, "--request-timeout", str(patience))
    transport = httpx.HTTPTransport(retries=8)  # until it listens
    with (
        running(program, "--models", str(models), "--port", str(port), *options) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=patience, transport=transport, trust_env=False
        ) as http,
    ):
        yield Served(process, http)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    save_checkpoint(folder / "tiny.safetensors", Generator(TINY))
    return folder


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Served]:
    """A service that starts and stops as it should."""
    with serve(models) as service:
        assert service.process.stdout is not None
        line = service.process.stdout.readline()
        assert line == f"CREPS Serve is ready on {str(service.http.base_url).rstrip('/')}\n"
        service.wait_until_ready()
        yield service
        children = service.children()
        service.process.send_signal(signal.SIGTERM)
        service.process.communicate(timeout=LONG)
    assert service.process.returncode == 0
    assert not any(map(is_running, children))


def render(checkpoint: Checkpoint, seed: int, width: int, height: int, crop: tuple[int, int, int, int]) -> Image.Image:
    spec = RenderSpec(checkpoint.digest, Latent(seed=seed), Viewport.resolve(width, height, crop=crop))
    return Image.fromarray(Renderer(checkpoint, "cpu").render(spec))


@ONE_SERVICE
def test_images_are_those_of_the_renderer(served: Served, models: Path) -> None:
    checkpoint = Checkpoint.open(models / "tiny.safetensors")
    response = served.http.get("/v1/images/tiny/3.png?width=150&height=100&crop=20,30,77,41")
    assert response.status_code == 200
    image = Image.open(io.BytesIO(response.content))
    expected = render(checkpoint, 3, 150, 100, (20, 30, 77, 41))
    assert np.asarray(image).std() > 1
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert response.headers["X-Creps-Digest"] == checkpoint.digest
    timing = dict(part.split(";dur=") for part in response.headers["Server-Timing"].split(", "))
    assert list(timing) == ["queue", "render", "encode"]
    assert float(timing["render"]) > 0


@ONE_SERVICE
@pytest.mark.parametrize(("output", "image_format", "bits"), [("tiff", "tiff", 32), ("png", "png", 16)])
def test_jobs_of_more_than_eight_bits(served: Served, output: str, image_format: str, bits: int) -> None:
    """They have the numbers of the image of the same size."""
    shown = {"model": "tiny", "seed": 3, "width": 150, "height": 100, "bits": bits}
    posted = served.http.post("/v1/jobs", json=shown | {"output": output, "format": image_format, "tile": 64})
    assert posted.status_code == 202, posted.text
    address = posted.headers["Location"]
    asyncio.run(eventually(lambda: served.http.get(address).json()["state"] == "succeeded"))
    image = served.http.post("/v1/images", json=shown | {"format": image_format})
    contents = served.http.get(f"{address}/output", follow_redirects=True).content, image.content
    if output == "png":
        found, expected = (imagecodecs.png_decode(content) for content in contents)
    else:
        found, expected = (tifffile.imread(io.BytesIO(content), key=0) for content in contents)
    assert found.dtype == {16: np.uint16, 32: np.float32}[bits]
    assert found.shape == (100, 150, 3)
    assert found.std() > 0
    assert np.array_equal(found, expected)


@ONE_SERVICE
def test_answers_do_not_mix(served: Served) -> None:
    def size_of(side: int) -> tuple[int, int, str]:
        response = served.http.post("/v1/images", json={"seed": side, "width": side, "height": side + 1})
        return (*Image.open(io.BytesIO(response.content)).size, response.headers["X-Creps-Seed"])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(size_of, range(16, 28))) == [(side, side + 1, str(side)) for side in range(16, 28)]


@ONE_SERVICE
def test_the_model_is_loaded_once_it_was_drawn(served: Served) -> None:
    served.http.get("/v1/images/tiny/1.png")
    end = time.monotonic() + LONG
    while served.http.get("/v1/models/tiny").json()["state"] != "loaded":
        assert time.monotonic() < end
        time.sleep(0.05)


@ONE_SERVICE
def test_images_are_cached(served: Served) -> None:
    end = time.monotonic() + LONG
    while not served.http.get("/v1/images/tiny/1.png").headers["Server-Timing"].endswith('cache;desc="hit"'):
        assert time.monotonic() < end, "a look-up may take too long on a busy machine, but not each time"
    assert 'creps_cache_bytes{cache="pictures"} 0.0' not in served.http.get("/metrics").text


@ONE_SERVICE
@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(served: Served) -> None:
    killed = served.worker()
    os.kill(killed, signal.SIGKILL)
    response = served.http.get("/v1/images/tiny/4.jpeg")  # waits in the queue for the next worker
    assert response.status_code == 200
    assert served.worker() != killed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_current_requests_are_finished_before_it_stops(models: Path, number: signal.Signals) -> None:
    with serve(models) as service:
        assert service.process.stdout is not None
        line = service.process.stdout.readline()
        assert line == f"CREPS Serve is ready on {str(service.http.base_url).rstrip('/')}\n"
        service.wait_until_ready()
        children = service.children()
        assert len(children) == 3  # the worker, the queue and the cache
        with ThreadPoolExecutor(1) as threads:
            under_way = threads.submit(service.http.get, "/v1/images/tiny/1.jpeg?width=500")
            service.wait_until_busy(under_way)
            service.process.send_signal(number)
            assert under_way.result().status_code == 200
        output, _ = service.process.communicate(timeout=LONG)
    assert service.process.returncode == 0
    assert output == ""
    assert not any(map(is_running, children))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=LONG, check=False)


def test_a_port_that_is_taken(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("creps serve: error: port: ")
    assert str(port) in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_that_cannot_run_ends_the_service(models: Path, processes: str) -> None:
    options = ("--port", "0", "--models", str(models), "--device", "cuda:99", "--log-level", "error")
    result = run("serve", *options, "--processes", processes)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "creps worker: error: " in result.stderr
    assert result.stderr.splitlines()[-1].startswith("creps serve: error: worker: ")


def test_a_gateway_alone_needs_the_queues_address() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CREPS_REDIS_URL"}
    result = subprocess.run(command("gateway"), capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("creps gateway: error: --redis-url: ")


@pytest.mark.slow
@pytest.mark.anyio
async def test_gateway_and_workers_apart(models: Path, redis_url: str) -> None:
    await to_thread.run_sync(check_gateway_and_workers_apart, models, redis_url)


def check_gateway_and_workers_apart(models: Path, redis_url: str) -> None:
    """A worker is killed while it renders; another, started later, renders the image."""
    worker = ("worker", "--models", str(models), "--device", "cpu", "--redis-url", redis_url)
    with (
        serve(models, program="gateway", options=("--redis-url", redis_url)) as gateway,
        ThreadPoolExecutor(1) as threads,
    ):
        with running(*worker) as first:
            gateway.wait_until_ready()
            answer = threads.submit(gateway.http.get, "/v1/images/tiny/5.png?width=1500")
            gateway.wait_until_busy(answer)
            first.kill()
        with running(*worker):
            image = Image.open(io.BytesIO(answer.result().content))
    expected = render(Checkpoint.open(models / "tiny.safetensors"), 5, 1500, 1500, (0, 0, 1500, 1500))
    assert np.array_equal(np.asarray(image), np.asarray(expected))
