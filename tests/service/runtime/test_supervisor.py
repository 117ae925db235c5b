"""Real child processes, some of them killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from service.runtime.supervisor import Supervisor
from tests.service.waiting import LONG, eventually, is_running

pytestmark = pytest.mark.anyio


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def test_a_child_runs_as_long_as_the_block() -> None:
    async with Supervisor("child", python("import time; time.sleep(1000)")) as child:
        pid = child.pid
        assert pid is not None
        assert is_running(pid)
    assert not is_running(pid)


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    code = f"import time; open({str(log)!r}, 'a').write('started '); time.sleep(1000)"
    async with Supervisor("child", python(code)) as child:
        await eventually(lambda: log.exists() and log.read_text() == "started ")
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: child.pid not in (None, first))
        await eventually(lambda: log.read_text() == "started started ")


async def test_a_child_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Supervisor("child", python("import time; time.sleep(1000)")) as child:
        first = child.pid
        assert first is not None
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/nowhere/python")
            os.kill(first, signal.SIGKILL)
            await eventually(lambda: "child cannot be started" in caplog.text)
        await eventually(lambda: child.pid not in (None, first))


async def test_a_child_with_bad_input_is_given_up() -> None:
    async with Supervisor("child", python("raise SystemExit(2)")) as child:
        await asyncio.wait_for(child.given_up(), LONG)
        assert child.pid is None


async def test_a_child_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(1000)"
    )
    async with Supervisor("child", python(code), grace=0.2) as child:
        await eventually(ready.exists)
        pid = child.pid
    assert pid is not None
    assert not is_running(pid)
