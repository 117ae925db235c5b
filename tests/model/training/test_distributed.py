"""Several processes, started by the real torchrun over gloo, and microbatches train exactly as one process does."""

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
from model.training.distributed import Distributed
from model.training.loop import train
from model.training.state import read_state
from service.cli import main
from tests.model.data.images import tiny_config, tiny_data, write_images
from tests.model.training.exact_steps import exact_config, take_steps

pytestmark = pytest.mark.xdist_group("torchrun")  # one at a time, and one state to compare with

CPU = torch.device("cpu")

OPTIONS = [
    "--preset", "tiny-32", "--device", "cpu", "--metrics", "none", "--path-length-weight", "2", "--augmentation", "ada",
    "--ada-kimg", "0.05", "--snapshot-kimg", "1000", "--log-kimg", "0.008", "--resolution", "8",
]  # fmt: skip
"""With every penalty and running mean on which processes have to agree."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(name="whole", scope="module")
def _whole() -> dict[str, Any]:
    """The state of one process that computes the whole batch at once."""
    return take_steps(exact_config("stylegan2"), Distributed()).to_dict()


def _torchrun(module: str, arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Starts two processes of a module."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", module, *arguments,
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Networks, running means and random numbers are the same up to rounding in fp64."""
    for name in ("generator", "discriminator", "average"):
        for key, tensor in expected[name].items():
            torch.testing.assert_close(found[name][key], tensor, rtol=0, atol=1e-11, msg=f"{name}.{key}")
    for name in ("augment_p", "path_length_mean", "sign_sum"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-12)
        assert expected[name] != 0
    assert torch.equal(found["random"], expected["random"])


@pytest.mark.parametrize("microbatch", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_microbatches_train_as_the_whole_batch(microbatch: int, whole: dict[str, Any]) -> None:
    _assert_same(take_steps(exact_config("stylegan2", microbatch), Distributed()).to_dict(), whole)


@pytest.mark.slow
def test_microbatches_train_as_the_whole_batch_with_r3gan() -> None:
    states = [take_steps(exact_config("r3gan", microbatch), Distributed()).to_dict() for microbatch in (0, 2)]
    _assert_same(*states)


@pytest.mark.slow
def test_microbatches_train_as_the_whole_batch_with_patches() -> None:
    states = [take_steps(exact_config("stylegan2", mb, patches=True), Distributed()).to_dict() for mb in (0, 2)]
    _assert_same(*states)


@pytest.mark.slow
def test_two_processes_train_as_one_with_patches(tmp_path: Path) -> None:
    process = _torchrun("tests.model.training.exact_steps", ["stylegan2", str(tmp_path / "two.pt"), "patches"])
    _, printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    expected = take_steps(exact_config("stylegan2", patches=True), Distributed()).to_dict()
    _assert_same(torch.load(tmp_path / "two.pt"), expected)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path, whole: dict[str, Any]) -> None:
    process = _torchrun("tests.model.training.exact_steps", ["stylegan2", str(tmp_path / "two.pt")])
    _, printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    _assert_same(torch.load(tmp_path / "two.pt"), whole)


@pytest.mark.slow
def test_a_run_of_two_processes_logs_once_and_one_process_resumes_it(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", count=20)
    arguments = ["--data", str(data), "--outdir", str(tmp_path / "run"), *OPTIONS]
    process = _torchrun("model.training", [*arguments, "--total-kimg", "0.016"])
    _, printed = process.communicate(timeout=200)
    assert process.returncode == 0, printed
    assert printed.count("finished at") == 1
    assert main(["train", *arguments, "--total-kimg", "0.024"]) == 0
    sessions = json.loads((tmp_path / "run" / "run.json").read_text())["sessions"]
    assert [session["processes"] for session in sessions] == [2, 1]
    assert (tmp_path / "run" / "checkpoint-000000024.safetensors").exists()


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_once_and_ends(tmp_path: Path) -> None:
    data, outdir = write_images(tmp_path / "data", count=20), tmp_path / "run"
    process = _torchrun(
        "model.training", ["--data", str(data), "--outdir", str(outdir), *OPTIONS, "--total-kimg", "1000"]
    )
    try:
        _wait_for_log(process, outdir)
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert printed.count("stopped at") == 1
    _check_saved(outdir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_ends_and_the_run_resumes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    config, outdir = tiny_config(total_kimg=1000.0), tmp_path / "run"

    def stop_at_the_first_snapshot(_: object) -> dict[str, float]:
        for _ in range(2):  # from the scheduler, and from torchrun
            os.kill(os.getpid(), number)
        return {}

    handler = signal.getsignal(number)
    path = train(config, tiny_data(tmp_path / "data"), outdir, CPU, metric_fn=stop_at_the_first_snapshot)
    assert signal.getsignal(number) == handler
    assert path.name == "checkpoint-000000012.safetensors"
    printed = capfd.readouterr().err
    assert printed.count("stopping after this step") == 1
    assert "stopped at 0.012 kimg" in printed
    assert _check_saved(outdir) == 12
    train(tiny_config(total_kimg=0.016), tiny_data(tmp_path / "data"), outdir, CPU)
    assert (outdir / "checkpoint-000000016.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_command_and_its_readers_saves_and_ends(tmp_path: Path, number: signal.Signals) -> None:
    """As from schedulers, Ctrl-C and a terminal that is closed."""
    data, outdir = write_images(tmp_path / "data"), tmp_path / "run"
    arguments = ["--data", str(data), "--outdir", str(outdir), *OPTIONS, "--workers", "2"]
    command = [sys.executable, "-m", "model.training", *arguments, "--total-kimg", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _wait_for_log(process, outdir)
        os.killpg(process.pid, number)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == os.EX_TEMPFAIL
    assert "stopped at" in printed
    assert ("; Ctrl-C stops at once" in printed) == (number == signal.SIGINT)
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
        ({"batch": 4}, 3, r"batch: 4 .* 3 processes"),
        ({"batch": 12, "minibatch_group": 4}, 2, r"batch: 6 .* minibatch_group, 4"),
        ({"batch": 12, "minibatch_group": 4, "microbatch": 4}, 2, r"microbatch: 4 .* 6"),
    ],
)
def test_a_batch_that_cannot_be_split_is_refused(overrides: dict[str, object], processes: int, message: str) -> None:
    config = tiny_config(**overrides)
    with pytest.raises(InputError, match=message):
        config.check_processes(processes)


def test_a_microbatch_smaller_than_a_group_can_be_split() -> None:
    tiny_config(batch=8, minibatch_group=4, microbatch=2).check_processes(4)
