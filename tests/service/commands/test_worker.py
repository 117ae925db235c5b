"""``creps worker`` in a process of its own, with the real renderer and encoder."""

import asyncio
import re
import signal
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from redis.asyncio import Redis

from kernels.renderer import Renderer
from model.checkpoint import save_checkpoint
from model.config import GeneratorConfig
from model.generator import Generator
from service.queue.client import RenderClient
from service.queue.messages import RenderFailed
from service.runtime.supervisor import BAD_INPUT
from tests.service.ports import free_port
from tests.service.stand_in import make_spec
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CONFIG = GeneratorConfig(16, z_dim=8, w_dim=8, mapping_layers=1, channel_base=128, channel_max=16, thickness=2)


async def run_creps(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *arguments, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


async def read_until(process: asyncio.subprocess.Process, pattern: str) -> str:
    """The first group of the first line of stderr that matches."""
    assert process.stderr
    async for line in process.stderr:
        if match := re.search(pattern, line.decode()):
            return match.group(1)
    raise AssertionError(f"the worker ended without saying {pattern}")


async def fetch(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


async def test_a_lost_device_ends_the_process_so_that_it_is_restarted() -> None:
    program = """
import service.commands.worker as command

async def run(*arguments):
    raise command.DeviceLostError("CUDA error: an illegal memory access was encountered")

command._run = run
command.main(["--redis-url", "redis://127.0.0.1:1"])
"""
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await asyncio.wait_for(worker.wait(), LONG) not in (0, BAD_INPUT)


async def test_it_renders_answers_counts_and_stops(redis: "Redis", redis_url: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    checkpoint = save_checkpoint(tmp_path / "tiny.safetensors", Generator(CONFIG))
    spec = make_spec(checkpoint.digest, seed=3, width=20, height=10)
    worker = await run_creps(
        "worker", "--redis-url", redis_url, "--models", str(tmp_path), "--device", "cpu", "--metrics-port", "0"
    )
    try:
        async with RenderClient(redis, 10) as client, asyncio.timeout(4 * LONG):  # it compiles kernels
            port = int(await read_until(worker, r"metrics on port (\d+)"))
            result = await client.render(spec, 4 * LONG)
            assert np.array_equal(imagecodecs.png_decode(result.content), Renderer(checkpoint, "cpu").render(spec))
            assert result.render_seconds > 0
            assert result.encode_seconds > 0
            with pytest.raises(RenderFailed, match="cannot load the model"):
                await client.render(make_spec("0" * 64), LONG)
            metrics = await fetch(port)
        worker.send_signal(signal.SIGTERM)
        _, told = await asyncio.wait_for(worker.communicate(), LONG)
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.communicate()
    assert worker.returncode == 0, told.decode()
    assert "has stopped" in told.decode()
    assert 'creps_rendered_pixels_total{model="tiny"} 200.0' in metrics
    assert f'creps_model_loaded{{digest="{checkpoint.digest}",model="tiny"}} 1.0' in metrics
    assert re.search(r'creps_render_duration_seconds_count\{backend="(native|cpu)",model="tiny"\} 1\.0', metrics)
    assert 'creps_encode_duration_seconds_count{format="png"} 1.0' in metrics


@pytest.mark.parametrize(
    "device", [pytest.param("cuda:0", marks=NEEDS_GPU), pytest.param("cpu", marks=pytest.mark.slow)]
)
async def test_a_model_that_is_removed_leaves_the_memory(
    redis: "Redis", redis_url: str, tmp_path: Path, device: str
) -> None:
    checkpoint = save_checkpoint(tmp_path / "tiny.safetensors", Generator(CONFIG))
    where = ["--gpus", "0"] if device == "cuda:0" else ["--device", device]
    port = free_port()
    worker = await run_creps(
        "worker", "--redis-url", redis_url, "--models", str(tmp_path), *where, "--metrics-port", str(port)
    )

    async def is_unloaded() -> bool:
        return 'model="tiny"' not in loaded_models(await fetch(port))

    try:
        async with RenderClient(redis, 10) as client, asyncio.timeout(4 * LONG):
            await client.render(make_spec(checkpoint.digest, seed=3, width=20, height=10), 4 * LONG)
            metrics = await fetch(port)
            assert 'model="tiny"' in loaded_models(metrics)
            held = gpu_memory(metrics)
            assert ("allocated" in held) == (device != "cpu")
            (tmp_path / "tiny.safetensors").unlink()
            await eventually(is_unloaded)
            left = gpu_memory(await fetch(port))
            assert all(left[kind] < held[kind] for kind in held if kind != "total")
    finally:
        worker.terminate()
        await worker.communicate()


def loaded_models(metrics: str) -> list[str]:
    """The loaded models, once for each metric."""
    return re.findall(r"^creps_model_(?:loaded|memory_bytes)\{.*(model=\".*?\")\}", metrics, re.MULTILINE)


def gpu_memory(metrics: str) -> dict[str, float]:
    """Bytes of each kind; empty for a CPU."""
    found = re.findall(r'^creps_gpu_memory_bytes\{.*kind="(.*?)"\} (\S+)$', metrics, re.MULTILINE)
    return {kind: float(size) for kind, size in found}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--redis-url: "),
        (["--redis-url", "redis://:secret@localhost:x"], "--redis-url: "),
        pytest.param(["--redis-url", "redis://x:1", "--device", "cuda:99"], "device: ", marks=pytest.mark.slow),
    ],
)
async def test_bad_settings_are_one_clear_line(arguments: list[str], message: str) -> None:
    process = await run_creps("worker", "--log-level", "error", *arguments)
    _, told = await asyncio.wait_for(process.communicate(), LONG)
    assert process.returncode == 2
    (line,) = told.decode().splitlines()
    assert line.startswith(f"creps worker: error: {message}")
    assert "secret" not in line
