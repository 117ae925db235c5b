"""A worker's liveness, which tells a worker that hangs from one that has much to do."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from model.errors import InputError
from service import rendering, worker
from service.render_client import RenderClient
from service.worker_port import WorkerPort
from tests.service import stand_in
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.stand_in import make_spec, make_worker, open_gate
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


def ask(port: WorkerPort, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port.port}{path}", trust_env=False, timeout=LONG)


def test_a_worker_that_starts_is_alive_and_tells_its_metrics() -> None:
    port = WorkerPort(0)
    assert (ask(port, "/livez").status_code, ask(port, "/livez").text) == (200, "alive")
    assert "creps_render_batch_size" in ask(port, "/metrics").text
    port.trouble = lambda: "it hangs"
    assert (ask(port, "/livez").status_code, ask(port, "/livez").text) == (503, "it hangs")
    with pytest.raises(InputError, match="cannot be listened on"):
        WorkerPort(port.port)


async def test_an_event_loop_or_a_batch_that_hangs_is_told(
    redis: "Redis", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_hollow_checkpoint(tmp_path, "first")
    one = make_worker(redis, tmp_path)
    running = asyncio.create_task(one.run())
    async with RenderClient(redis, 10) as client:
        assert (await client.render(make_spec(checkpoint.digest, 1), LONG)).content == b"8x4 1 png"
        assert one.trouble is None
        drawing = asyncio.create_task(client.render(make_spec(checkpoint.digest, stand_in.WAITS), LONG))
        await eventually(lambda: len(stand_in.journal(tmp_path)) == 2)
        assert one.trouble is None  # it only takes its time
        monkeypatch.setattr(rendering, "HUNG_SECONDS", 0.0)
        open_gate(tmp_path)
        await drawing
        (tmp_path / "gate").unlink()
        drawing = asyncio.create_task(client.render(make_spec(checkpoint.digest, stand_in.WAITS), LONG))
        await eventually(lambda: one.trouble == "a batch takes longer to draw than any should")
        open_gate(tmp_path)
        await drawing
        await eventually(lambda: one.trouble is None)
        monkeypatch.setattr(worker, "HUNG_SECONDS", -1.0)
        assert "event loop" in (one.trouble or "")
        one.stop()
        await asyncio.wait_for(running, LONG)
