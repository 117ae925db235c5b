"""Several processes, started by the real torchrun over gloo: what they learn is what one process learns."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import InputError
from model.training.config import TrainingConfig
from model.training.processes import Processes
from model.training.state import read_state
from service.cli import main
from tests.model.training.exact_steps import recipe, take_steps
from tests.model.training.pictures import tiny_config, write_pictures

RECIPE = [
    "--preset", "tiny-32", "--device", "cpu", "--metrics", "none", "--path-length-weight", "2", "--augmentation", "ada",
    "--ada-kimg", "0.05", "--snapshot-kimg", "1000", "--log-kimg", "0.008",
]  # fmt: skip
"""With every penalty and average that processes have to agree on."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _torchrun(module: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Two processes of a module."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", module, *arguments,
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Networks, averages and random numbers are the same up to the rounding of fp64."""
    for name in ("generator", "discriminator", "average"):
        for key, tensor in expected[name].items():
            torch.testing.assert_close(found[name][key], tensor, rtol=0, atol=1e-11, msg=f"{name}.{key}")
    for name in ("augment_p", "path_length_mean", "sign_sum"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-12)
        assert expected[name] != 0
    assert torch.equal(found["random"], expected["random"])


@pytest.mark.parametrize("loss", ["stylegan2", "r3gan"])
def test_parts_of_a_batch_learn_what_the_whole_learns(loss: str) -> None:
    whole = take_steps(recipe(loss), Processes()).to_dict()
    for microbatch in (4, 2):
        _assert_same(take_steps(recipe(loss, microbatch), Processes()).to_dict(), whole)


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    process = _torchrun("tests.model.training.exact_steps", ["stylegan2", str(tmp_path / "two.pt")])
    _, printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    _assert_same(torch.load(tmp_path / "two.pt"), take_steps(recipe("stylegan2"), Processes()).to_dict())


def test_a_run_of_two_processes_reports_once_and_one_goes_on_with_it(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", count=20, size=32)
    arguments = ["--data", str(data), "--outdir", str(tmp_path / "run"), *RECIPE]
    process = _torchrun("model.training", [*arguments, "--total-kimg", "0.016"])
    _, printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert printed.count("finished at") == 1
    assert main(["train", *arguments, "--total-kimg", "0.024"]) == 0
    sessions = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"]
    assert [session["processes"] for session in sessions] == [2, 1]
    assert (tmp_path / "run" / "checkpoint-000000024.safetensors").exists()


def test_sigterm_to_torchrun_saves_once_and_ends(tmp_path: Path) -> None:
    data, outdir = write_pictures(tmp_path / "data", count=20, size=32), tmp_path / "run"
    process = _torchrun(
        "model.training", ["--data", str(data), "--outdir", str(outdir), *RECIPE, "--total-kimg", "1000"]
    )
    try:
        _wait_for_log(process, outdir)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert printed.count("stopped at") == 1
    _check_saved(outdir)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_saves_and_ends_and_the_run_goes_on(tmp_path: Path, workers: int) -> None:
    """SIGTERM to a run without readers, and Ctrl-C, which reaches the run and its readers."""
    data, outdir = write_pictures(tmp_path / "data", size=32), tmp_path / "run"
    arguments = ["--data", str(data), "--outdir", str(outdir), *RECIPE, "--workers", str(workers)]
    command = [sys.executable, "-m", "model.training", *arguments, "--total-kimg", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _wait_for_log(process, outdir)
        if workers:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopped at" in printed
    images = _check_saved(outdir) + 8
    assert main(["train", *arguments, "--total-kimg", str(images / 1000)]) == 0
    assert (outdir / f"checkpoint-{images:09d}.safetensors").exists()


def _wait_for_log(process: subprocess.Popen[str], outdir: Path) -> None:
    metrics = outdir / "metrics.jsonl"
    while not metrics.exists() or not metrics.read_text():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def _check_saved(outdir: Path) -> int:
    (state,) = outdir.glob("state-*.pt")
    images = int(state.stem.removeprefix("state-"))
    assert read_state(state)["images"] == images
    assert (outdir / f"checkpoint-{images:09d}.safetensors").exists()
    return images


@pytest.mark.parametrize(
    ("overrides", "processes", "message"),
    [
        ({"batch": 4}, 3, "4 cannot be shared equally by 3 processes"),
        ({"batch": 8, "minibatch_group": 4, "microbatch": 2}, 4, None),
        ({"batch": 12, "minibatch_group": 4}, 2, "the 6 pictures in memory must be a multiple of minibatch_group, 4"),
        ({"batch": 12, "minibatch_group": 4, "microbatch": 4}, 2, "4 does not divide the 6 pictures of a process"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(
    overrides: dict[str, object], processes: int, message: str | None
) -> None:
    config: TrainingConfig = tiny_config(**overrides)
    if message is None:
        return config.check_processes(processes)
    with pytest.raises(InputError, match=message):
        config.check_processes(processes)
    return None
