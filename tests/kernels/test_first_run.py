"""The first run on a GPU, rehearsed without one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernels.first_run import __main__ as command
from kernels.first_run.steps import STEPS, NotAvailableError, Step
from tests.kernels.kernel_runs import ON_GPU

LONG = 60.0

pytestmark = pytest.mark.skipif(ON_GPU, reason="it would take ten minutes; run python -m kernels.first_run")


def run_steps(monkeypatch: pytest.MonkeyPatch, file: Path, steps: dict[str, Any]) -> dict[str, Any]:
    monkeypatch.setattr(command, "STEPS", {name: Step(run, 1.0) for name, run in steps.items()})
    try:
        command.main([f"--json={file}", "--steps=" + ",".join(steps)])
    finally:
        results: dict[str, Any] = json.loads(file.read_text())
    return results


@pytest.mark.slow
def test_every_step_runs_in_the_interpreter(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "kernels.first_run", f"--json={file}"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(file.read_text())
    assert list(results) == list(STEPS)
    assert {name for name, result in results.items() if "not available" in result} == {"hazards", "tests"}
    for check in (results["small-check"], results["full-check"]):
        assert check["fp16"]["image"]["levels"] <= 1
        assert check["accurate enough"]["passes"]
    assert len(results["answers"]["interpreter"]["digests"]) == 1
    assert results["large-images"]["gigapixels per second"]["to host"] > 0
    assert results["training"]["step_seconds"]["no penalty"] > 0
    assert len(done.stdout.splitlines()) == len(STEPS)


def test_results_are_written_after_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"

    def second(preset: str) -> dict[str, Any]:
        return {"before": list(json.loads(file.read_text())), "preset": preset}

    results = run_steps(monkeypatch, file, {"first": lambda _: {"a": 1}, "second": second})
    assert results["first"]["a"] == 1
    assert results["second"]["before"] == ["first"]
    assert results["second"]["preset"] == "creps-512"


def test_a_failed_step_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: str) -> dict[str, Any]:
        raise RuntimeError("an illegal memory access")

    def is_missing(_: str) -> dict[str, Any]:
        raise NotAvailableError("not here")

    file = tmp_path / "results.json"
    with pytest.raises(SystemExit, match="1"):
        run_steps(monkeypatch, file, {"one": fails, "two": is_missing, "three": lambda _: {"good": True}})
    results = json.loads(file.read_text())
    assert results["one"]["error"] == "RuntimeError: an illegal memory access"
    assert "in fails" in results["one"]["output"]
    assert results["two"]["not available"] == "not here"
    assert results["three"]["good"]
    assert [" FAILED " in line for line in capsys.readouterr().out.splitlines()] == [True, False, False]


@pytest.mark.parametrize(("result", "bad"), [({"a": {"b": {"passes": False}}}, True), ({"a": {"passes": True}}, False)])
def test_what_has_not_passed_has_failed(result: dict[str, Any], bad: bool) -> None:
    assert command.failed(result) == bad


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import os, signal, sys; print('why', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)", "status -9"),
        ("import subprocess; subprocess.run(['sleep', '1000'])", "took more than 0.5 s"),
    ],
)
def test_a_step_that_kills_its_process_or_hangs_is_an_error(
    program: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU steps run in processes of their own. What they have started ends with them."""
    monkeypatch.setattr(command, "CHILD", (sys.executable, "-c", program))
    monkeypatch.setattr(command, "STEPS", {"step": Step(lambda _: {}, 0.5 if "sleep" in program else LONG)})
    result = command.run_in_child("step", "creps-512")
    assert error in result["error"]
    assert result.get("output", "why\n") == "why\n"
