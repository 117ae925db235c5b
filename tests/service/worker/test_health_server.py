"""A worker's liveness, which tells a worker that hangs from one that has much to do."""

import asyncio
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from model.errors import InputError
from service.queue.client import RenderClient
from service.worker import render_executor, worker
from service.worker.health_server import HealthServer
from tests.service import stand_in
from tests.service.checkpoints import save_hollow_checkpoint
from tests.service.ports import NEEDS_IPV6
from tests.service.stand_in import make_spec, make_worker, open_gate
from tests.service.waiting import LONG, eventually

pytestmark = pytest.mark.anyio


def ask(port: HealthServer, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port.port}{path}", trust_env=False, timeout=LONG)


def test_a_worker_that_starts_is_alive_and_tells_its_metrics() -> None:
    port = HealthServer(0)
    assert (ask(port, "/livez").status_code, ask(port, "/livez").text) == (200, "alive")
    assert "creps_render_batch_size" in ask(port, "/metrics").text
    port.unhealthy_reason = lambda: "it hangs"
    assert (ask(port, "/livez").status_code, ask(port, "/livez").text) == (503, "it hangs")
    with pytest.raises(InputError, match="cannot be listened on"):
        HealthServer(port.port)


def test_head_is_answered_like_get() -> None:
    port = HealthServer(0)
    for path in ("/livez", "/metrics"):
        head = httpx.head(f"http://127.0.0.1:{port.port}{path}", trust_env=False, timeout=LONG)
        get = ask(port, path)
        assert (head.status_code, head.headers["Content-Type"]) == (200, get.headers["Content-Type"])
        assert int(head.headers["Content-Length"]) > 0


@NEEDS_IPV6
def test_probes_use_ipv4_and_ipv6() -> None:
    port = HealthServer(0).port
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{port}/livez", trust_env=False, timeout=LONG).status_code == 200


async def test_an_event_loop_or_a_batch_that_hangs_is_told(
    redis: "Redis", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_hollow_checkpoint(tmp_path, "first")
    one = make_worker(redis, tmp_path)
    running = asyncio.create_task(one.run())
    async with RenderClient(redis, 10) as client:
        assert (await client.render(make_spec(checkpoint.digest, 1), LONG)).content == b"8x4 1 png"
        assert one.unhealthy_reason is None
        drawing = asyncio.create_task(client.render(make_spec(checkpoint.digest, stand_in.WAITS), LONG))
        await eventually(lambda: len(stand_in.journal(tmp_path)) == 2)
        assert one.unhealthy_reason is None  # it only takes its time
        monkeypatch.setattr(render_executor, "STALL_TIMEOUT", 0.0)
        open_gate(tmp_path)
        await drawing
        (tmp_path / "gate").unlink()
        drawing = asyncio.create_task(client.render(make_spec(checkpoint.digest, stand_in.WAITS), LONG))
        await eventually(lambda: "batch" in (one.unhealthy_reason or ""))
        open_gate(tmp_path)
        await drawing
        await eventually(lambda: one.unhealthy_reason is None)
        monkeypatch.setattr(worker, "STALL_TIMEOUT", -1.0)
        assert "event loop" in (one.unhealthy_reason or "")
        one.stop()
        await asyncio.wait_for(running, LONG)
