"""The gateway as its image has it: installed without torch, started as a process, asked over HTTP."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from model.checkpoint import Checkpoint
from service.models.catalog import DEMO
from service.runtime.embedded_redis import embedded_redis
from tests.deploy.conftest import Installed
from tests.service.ports import free_port
from tests.service.waiting import LONG, eventually

# It may have to download what it installs. The fast suite proves that the gateway imports no torch: test_operation.py.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("gateway image"),  # installed once
]

IMPORTS = """
import sys
from importlib.util import find_spec

assert not find_spec("torch"), "torch is installed"
import service.commands.gateway

print(*sorted(name for name in sys.modules if name.partition(".")[0] in ("kernels", "model")))
"""

TORCH_FREE = {
    "model",
    "model.checkpoint",
    "model.config",
    "model.errors",
    "model.geometry",
    "model.geometry.maps",
    "model.geometry.orientation",
    "model.geometry.outside",
    "model.geometry.sampling",
    "model.geometry.transforms",
    "model.geometry.wrap",
    "model.latents",
    "model.latents.direction",
    "model.latents.direction_names",
    "model.latents.files",
    "model.latents.latent",
    "model.latents.ranges",
    "model.shapes",
    "model.motion",
    "model.motion.blend",
    "model.motion.pace",
    "model.motion.spline",
    "model.motion.timeline",
    "model.motion.walk",
    "model.motion.zoom",
    "model.spec",
    "model.util",
    "model.util.arguments",
    "model.util.files",
    "model.util.garbage",
    "model.util.text",
    "model.viewport",
}
"""Of the packages that draw, what a gateway knows: which picture is meant, latents, and a checkpoint's header."""


@pytest.fixture
async def gateway(gateway_image: Installed, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a running gateway, whose queue is the test environment's."""
    creps = gateway_image.python.parent / "creps"
    async with embedded_redis() as redis_url:
        process = await asyncio.create_subprocess_exec(
            *(creps, "gateway", "--port", "0", "--redis-url", redis_url),
            cwd=tmp_path,
            env=gateway_image.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout
            line = (await process.stdout.readline()).decode()
            match = re.search(r"http://\S+", line)
            assert match, line
            yield match.group()
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), LONG) == 0


async def test_it_answers_what_needs_no_worker(gateway: str) -> None:
    async with httpx.AsyncClient(base_url=gateway, timeout=LONG) as http:
        assert (await http.get("/livez")).status_code == 200
        (demo,) = (await http.get("/v1/models")).raise_for_status().json()["models"]
        assert (demo["name"], demo["digest"], demo["state"]) == ("demo", Checkpoint.open(DEMO).digest, "available")
        readiness = await http.get("/readyz")
        assert readiness.status_code == 503
        assert readiness.headers["content-type"] == "application/problem+json"
        assert "no worker" in readiness.json()["detail"]
        assert "creps_queue_depth" in (await http.get("/metrics")).text
        assert "<canvas" in (await http.get("/")).text  # files that are no Python are installed, too
        assert (await http.get("/docs")).status_code == 200


def test_it_imports_neither_torch_nor_kernels(gateway_image: Installed, tmp_path: Path) -> None:
    output = subprocess.check_output(
        [gateway_image.python, "-c", IMPORTS], cwd=tmp_path, env=gateway_image.environment, text=True
    )
    assert set(output.split()) <= TORCH_FREE


async def test_the_health_check_follows_livez(gateway: str, gateway_image: Installed) -> None:
    async def check(port: int | None) -> int:
        command = (gateway_image.python, "-I", gateway_image.healthcheck, str(port))
        environment = {**gateway_image.environment, "http_proxy": "http://127.0.0.1:1"}
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        return await asyncio.wait_for(process.wait(), LONG)

    async def is_healthy() -> bool:
        return await check(httpx.URL(gateway).port) == 0

    await eventually(is_healthy)  # the check itself has no patience with a machine that stalls
    assert await check(free_port()) == 1


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["worker", "--redis-url", "redis://127.0.0.1:1"], "torch", "worker"),
        (["render", "demo", "--seed", "1", "--size", "64x64", "--output", "a.png"], "tqdm", "worker"),
        (["info", "demo"], "torch", "worker"),
        (["train", "--data", "a.zip", "--outdir", "runs"], "torch", "train"),
        (["benchmark", "compile"], "torch", "benchmark"),
    ],
)
def test_what_needs_more_says_in_one_line_what_to_install(
    gateway_image: Installed, arguments: list[str], package: str, extra: str, tmp_path: Path
) -> None:
    environment = {**gateway_image.environment, "CREPS_LOG_LEVEL": "error", "CREPS_OUTPUTS": str(tmp_path / "outputs")}
    done = subprocess.run(
        [gateway_image.python.parent / "creps", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"creps {arguments[0]}: error: {package}: is not installed")
    assert done.stderr.endswith(f"pip install 'creps-serve[{extra}]'\n")


def test_serve_without_a_queue_says_what_to_install(gateway_image: Installed, tmp_path: Path) -> None:
    done = subprocess.run(
        [gateway_image.python.parent / "creps", "serve", "--port", "0"],
        cwd=tmp_path,
        env={**gateway_image.environment, "PATH": str(gateway_image.python.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "install 'creps-serve[serve]' with pip" in done.stderr.splitlines()[-1]
