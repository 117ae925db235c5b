"""The folder of a run: it belongs to one run at a time, and the run to nothing but its own files."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from model.errors import InputError
from model.training.distributed import Distributed
from model.training.loop import train
from model.training.losses import stylegan2
from model.training.metrics_log import MetricsLog
from model.training.state import list_states, read_state
from model.util.files import append_line
from tests.model.data.images import tiny_config, tiny_data

CPU = torch.device("cpu")

CONFIG = tiny_config()


def _train(folder: Path, run: str = "run", **options: Any) -> Path:
    config = options.pop("config", CONFIG)
    return train(config, tiny_data(folder / "data", config), folder / run, CPU, **options)


def _lines(outdir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (outdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and a finished ``run``."""
    folder = tmp_path_factory.mktemp("finished")
    _train(folder, metric_fn=lambda _: {"fid": 3.5})
    return folder


@pytest.fixture(name="stopped")
def _stopped(finished: Path, tmp_path: Path) -> Path:
    """A folder with ``data`` and a ``run`` as it was after 12 images."""
    shutil.copytree(finished, tmp_path / "copy")
    for path in (tmp_path / "copy" / "run").glob("*-000000024.*"):
        path.unlink()
    return tmp_path / "copy"


def test_copies_of_states_are_neither_resumed_from_nor_deleted(stopped: Path, finished: Path) -> None:
    outdir = stopped / "run"
    copies = [outdir / name for name in ("state-best.pt", "state-good.pt", "state-000000012 (copy).pt")]
    for copy in copies:
        shutil.copy(outdir / "state-000000012.pt", copy)
    first = _train(stopped)
    assert first.read_bytes() == (finished / "run" / first.name).read_bytes()
    longer = _train(stopped, config=replace(CONFIG, total_kimg=0.036))
    assert longer.name == "checkpoint-000000036.safetensors"
    assert [path.name for path in list_states(outdir)] == ["state-000000036.pt", "state-000000024.pt"]
    assert all(copy.exists() for copy in copies)


def test_no_byte_of_a_state_changes_unnoticed(finished: Path, tmp_path: Path) -> None:
    expected = read_state(finished / "run" / "state-000000024.pt")
    content = (finished / "run" / "state-000000024.pt").read_bytes()
    damaged = tmp_path / "state.pt"
    refused = 0
    for position in range(0, len(content), len(content) // 60):
        damaged.write_bytes(content[:position] + bytes([content[position] ^ 8]) + content[position + 1 :])
        try:
            found = read_state(damaged)
        except InputError:
            refused += 1
        else:  # a byte between the parts of the zip
            assert torch.equal(found["random"], expected["random"])
            assert _tensors(found) == _tensors(expected), position
    assert refused > 40


def _tensors(state: dict[str, Any]) -> dict[str, bytes]:
    """The bytes of all tensors of the networks."""
    parts = ("generator", "discriminator", "average")
    return {f"{part}.{key}": value.numpy().tobytes() for part in parts for key, value in state[part].items()}


def test_a_damaged_state_is_named_and_the_one_before_used(
    stopped: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((finished / "run" / "state-000000024.pt").read_bytes())
    with zipfile.ZipFile(finished / "run" / "state-000000024.pt") as state:
        largest = max(state.infolist(), key=lambda part: part.file_size)
    content[largest.header_offset + largest.file_size] ^= 1  # its header is shorter than its content
    (stopped / "run" / "state-000000024.pt").write_bytes(content)
    checkpoint = _train(stopped)
    assert checkpoint.read_bytes() == (finished / "run" / checkpoint.name).read_bytes()
    assert (
        "state-000000024.pt is not a training state, or it is damaged: the checksum of its " in capsys.readouterr().err
    )


def test_a_run_that_is_killed_while_metrics_are_computed_has_its_snapshot(tmp_path: Path) -> None:
    def run_out_of_memory(_: object) -> dict[str, float]:
        raise MemoryError

    with pytest.raises(MemoryError):
        _train(tmp_path, metric_fn=run_out_of_memory)
    assert [path.name for path in list_states(tmp_path / "run")] == ["state-000000012.pt"]
    assert (tmp_path / "run" / "checkpoint-000000012.safetensors").exists()


def test_a_reader_that_is_killed_ends_the_run_with_everything_saved(tmp_path: Path) -> None:
    def kill_readers(_: object) -> dict[str, float]:
        for child in active_children():
            _, _, parent = Path(f"/proc/{child.pid}/status").read_text().partition("PPid:")
            assert int(parent.split()[0]) != os.getpid()  # this process has threads, so it must not be forked
            child.kill()
        return {}

    config = replace(CONFIG, total_kimg=1000.0, snapshot_kimg=0.04)
    with pytest.raises(InputError, match="workers: a process that reads images was lost, perhaps for lack of memory: "):
        _train(tmp_path, config=config, workers=1, metric_fn=kill_readers)
    (newest, before) = list_states(tmp_path / "run")
    assert before.name == "state-000000040.pt"
    assert newest.name > before.name  # batches that had been read are used


@pytest.mark.slow
def test_readers_need_no_shared_memory(tmp_path: Path) -> None:
    """Of which a container has 64 MiB by default, and this one nothing but what locks need."""
    shared = "mount -t tmpfs -o size=128k tmpfs /dev/shm"
    if subprocess.run(["unshare", "-rm", "sh", "-c", shared], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces")
    program = (
        "import torch; from pathlib import Path; from model.training.loop import _read_batches\n"
        "from model.training.distributed import Distributed; from model.training.state import TrainingState\n"
        "from tests.model.data.images import tiny_config, tiny_data\n"
        "config = tiny_config(batch=512)\n"
        f"data = tiny_data(Path({str(tmp_path / 'data')!r}), config)\n"
        "batches = _read_batches(data, TrainingState(config, torch.device('cpu')), 2, Distributed())\n"
        "print([len(next(batches)[0]) for _ in range(4)])\n"
        "batches.close()\n"
    )
    command = ["unshare", "-rm", "sh", "-c", f'{shared} && exec "$@"', "sh", sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout == "[512, 512, 512, 512]\n", ended.stderr


def test_two_runs_do_not_share_a_folder(stopped: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model.training.run_lock import lock_run\n"
        "with lock_run(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    before = (stopped / "run" / "metrics.jsonl").read_bytes()
    command = [sys.executable, "-c", program, str(stopped / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="outdir: another run is writing to "):
            _train(stopped)
        assert (stopped / "run" / "metrics.jsonl").read_bytes() == before
        other.communicate()
    _train(stopped)


def test_a_folder_whose_states_are_gone_is_not_begun_anew(stopped: Path) -> None:
    before = (stopped / "run" / "metrics.jsonl").read_bytes()
    (stopped / "run" / "state-000000012.pt").unlink()
    with pytest.raises(InputError, match=r"outdir: .* holds checkpoints but no training state to resume from"):
        _train(stopped)
    assert (stopped / "run" / "metrics.jsonl").read_bytes() == before


def test_partial_files_of_killed_runs_are_removed(stopped: Path) -> None:
    partial = [stopped / "run" / name for name in (".state-000000024.pt.0a1b2c3d", ".run.json.ffffffff")]
    kept = [stopped / "run" / name for name in (".hidden", ".notes.txt", "a.0a1b2c3d")]
    for path in (*partial, *kept):
        path.touch()
    _train(stopped)
    assert [path.exists() for path in (*partial, *kept)] == [False, False, True, True, True]


def test_a_full_disk_at_a_line_of_the_log_does_not_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with MetricsLog(tmp_path, 0, 100, CPU, Distributed(), {}) as log:
        path = tmp_path / "metrics.jsonl"
        log.write(10, {"loss": 1.0})
        whole = path.read_text()
        path.unlink()
        path.symlink_to("/dev/full")
        log.write(20, {"loss": 2.0})
        path.unlink()
        path.write_text(whole)
        log.write(30, {"loss": 3.0})
    assert [line["kimg"] for line in _lines(tmp_path)] == [0.01, 0.03]
    assert "metrics.jsonl: a line is missing: " in capsys.readouterr().err


def test_log_txt_has_what_a_run_says_as_plain_lines(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = finished / "data"
    train(replace(CONFIG, total_kimg=0.02), tiny_data(data), tmp_path, CPU)
    printed = capsys.readouterr().err
    lines = printed.splitlines()
    assert (tmp_path / "log.txt").read_text() == printed
    assert all(line.isprintable() for line in lines)
    assert lines[:3] == [
        f"{tmp_path}: starts from new networks, to 0.02 kimg",
        f"data: {data}, 6 images of 8², and their mirror images",
        "recipe: loss stylegan2, batch 4, gamma 0.1, learning rate 0.002, augmentation ada, precision fp16",
    ]
    assert re.fullmatch("devices: .+ with 1 thread", lines[3])
    tick = r"0\.008 of 0\.02 kimg, [0-9]+ s, [0-9.]+ (s|min) left, loss_generator .* augment_p .* memory_gib [0-9.]+"
    assert re.fullmatch(tick, lines[4])
    train(CONFIG, tiny_data(data), tmp_path, CPU)
    added = (tmp_path / "log.txt").read_text().removeprefix(printed)
    assert added.startswith(f"{tmp_path}: goes on from state-000000020.pt at 0.02 kimg, to 0.024 kimg\n")
    assert added == capsys.readouterr().err


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text("first\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, before[1]))  # as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            append_line(file, "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == "first\n"


def test_sigterm_leaves_no_partial_file(tmp_path: Path) -> None:
    program = (
        "import os, signal; from pathlib import Path; from model.util.files import new_file\n"
        "with new_file(Path('a')) as file: file.write(b'half'); os.kill(os.getpid(), signal.SIGTERM)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=False)
    assert ended.returncode != 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(name="interrupted")
def _interrupted(tmp_path: Path) -> Path:
    """A folder whose run was stopped after 20 images, between two lines of its log."""
    plain, calls = stylegan2.generator_loss, iter(range(100))

    def stop_at_the_fifth_step(logits: Tensor) -> Tensor:
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(logits)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(stylegan2, "generator_loss", stop_at_the_fifth_step)
        assert _train(tmp_path, metric_fn=lambda _: {"fid": 3.5}).name == "checkpoint-000000020.safetensors"
    return tmp_path


def test_the_log_of_a_resumed_run_is_that_of_one_that_was_not_stopped(interrupted: Path, finished: Path) -> None:
    """A line of the few steps before or after the stop would be a spike in the curves."""
    _train(interrupted, metric_fn=lambda _: {"fid": 3.5})
    measured = ("time", "images_per_second", "memory_gib")
    found, expected = (
        [{name: value for name, value in line.items() if name not in measured} for line in _lines(folder / "run")]
        for folder in (interrupted, finished)
    )
    assert [line["kimg"] for line in found] == [0.008, 0.012, 0.016, 0.024]
    assert found == expected


def test_tensorboard_keeps_the_values_of_the_snapshot_that_is_resumed_from(stopped: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _train(stopped, metric_fn=lambda _: {"fid": 4.5})
    events = accumulators.EventAccumulator(str(stopped / "run")).Reload()
    assert [event.step for event in events.Scalars("loss_generator")] == [8, 12, 16, 24]
    assert [(event.step, event.value) for event in events.Scalars("fid")] == [(12, 3.5), (24, 4.5)]
