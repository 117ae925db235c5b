"""``creps benchmark train`` as users run it, on the smallest preset."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from model.errors import InputError
from model.training.presets import PRESETS, resolve
from model.training.profiling import benchmark
from model.training.profiling.benchmark import Measurement
from model.training.profiling.measure import Cost, step_kinds
from service.cli import main

TINY = ["benchmark", "train", "--presets", "tiny-32", "--device", "cpu"]


def in_this_process(_: str, function: Callable[..., Any], *args: Any) -> Any:
    """In place of a process of its own, which takes seconds to import torch."""
    return function(*args)


def die(*_: object) -> NoReturn:
    """As the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def measure(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    path = tmp_path / "report.json"
    assert main([*TINY, *arguments, "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["torch"] == torch.__version__
    measurements: list[dict[str, Any]] = report["measurements"]
    return measurements


def test_variants_are_measured_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "in_own_process", in_this_process)
    monkeypatch.setattr(benchmark, "estimate_peak_memory", lambda _: 1 << 20)  # slower than all else here
    chunks, kept = measure(tmp_path, "--batch", "2", "--steps", "1")  # compiled only on a GPU
    head, _, *rows, precision = capsys.readouterr().out.splitlines()
    assert precision.startswith("precision: fp32")
    assert f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}" in head
    assert [row.split("  ")[1].strip() for row in rows] == ["in chunks", "all kept"]
    assert rows[1].split()[-2:] == ["1.00", "1.00"]  # relative to the baseline, which it is itself
    assert (chunks["name"], kept["name"]) == ("in chunks", "all kept")
    for found in (chunks, kept):
        assert (found["config"]["batch"], found["config"]["minibatch_group"], found["failure"]) == (2, 2, "")
        steps = found["training"]["step_seconds"]
        assert set(steps) == {"gradient penalty", "no penalty"}
        average = (steps["gradient penalty"] + 15 * steps["no penalty"]) / 16
        assert found["training"]["seconds"] == pytest.approx(500 * average)
        assert average > 0
        assert 1e8 < found["training"]["peak_bytes"] < 4e9


def test_ablations_are_trained_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "in_own_process", in_this_process)
    monkeypatch.setattr(benchmark, "estimate_peak_memory", lambda _: 1 << 20)
    measurements = measure(tmp_path, "--batch", "2", "--steps", "1", "--ablations")
    assert "MFLOP/pixel" in capsys.readouterr().out
    full, thin, bare, last = measurements
    assert [found["name"] for found in measurements] == list(benchmark.ABLATIONS)
    for found in measurements:
        assert found["drawing"]["seconds"] > 0
        assert found["training"]["seconds"] > 0
        assert found["training"]["peak_bytes"] >= found["drawing"]["peak_bytes"] > 1e8
    for found in (thin, bare, last):
        assert found["pixel_flops"] < full["pixel_flops"]
    # Three decoders of 32 → 64 → 128 → 64 → 32 channels, with biases.
    assert full["parameters"] - bare["parameters"] == 3 * (20480 + 288)
    assert full["pixel_flops"] - bare["pixel_flops"] == 3 * 2 * 20480


def test_what_does_not_fit_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "installed_memory", lambda _: 1 << 20)
    monkeypatch.setattr(benchmark, "measure_training", die)
    monkeypatch.setattr(benchmark, "estimate_peak_memory", lambda _: 3 << 30)
    for found in measure(tmp_path):
        assert found["config"]["batch"] == 1  # the default on a CPU
        assert (found["rehearsed_bytes"], found["failure"]) == (3 << 30, "needs 3.0 GiB")
    printed = capsys.readouterr()
    assert printed.out.count("needs") == printed.err.count("needs") == 2


@pytest.mark.slow
def test_a_killed_process_loses_only_its_own_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "measure_training", die)
    monkeypatch.setattr(benchmark, "VARIANTS", {"in chunks": {}})
    monkeypatch.setattr(benchmark, "estimate_peak_memory", lambda _: 1 << 20)
    (killed,) = measure(tmp_path)
    assert "training" in killed["failure"]
    assert killed["failure"] in capsys.readouterr().out
    assert killed["training"] is None


@pytest.mark.parametrize("error", [RuntimeError("a kernel failed\nwith details"), MemoryError(), InputError("a", "b")])
def test_a_failure_loses_only_its_own_results(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_or_measure(title: str, *_: object) -> Cost:
        if "in chunks" in title:
            raise error
        return Cost(1.5, 1 << 30)

    monkeypatch.setattr(benchmark, "in_own_process", fail_or_measure)
    monkeypatch.setattr(benchmark, "estimate_peak_memory", lambda _: 1 << 20)
    chunks, kept = measure(tmp_path)
    assert chunks["training"] is None
    assert chunks["failure"] in (str(error), "MemoryError", "b")
    assert chunks["failure"].partition("\n")[0] in capsys.readouterr().out
    assert (kept["training"]["seconds"], kept["failure"]) == (1.5, "")


def test_kinds_of_steps_are_weighted_as_often_as_they_come() -> None:
    kinds = step_kinds(PRESETS["ffhq-512"].config)
    assert kinds == {
        "path length and gradient penalty": (0, 1 / 16),
        "no penalty": (1, 12 / 16),
        "path length": (4, 3 / 16),
    }
    every_step = resolve("ffhq-512", {"loss": "r3gan"}, {})
    assert step_kinds(every_step) == {"gradient penalty": (0, 1.0)}
    assert step_kinds(resolve("tiny-32", {"gamma": 0.0}, {})) == {"no penalty": (0, 1.0)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presets", "tiny-32,huge"], "presets: must be of tiny-32"),
        (["--presets", ""], "presets: must be of tiny-32"),
        (["--batch", "0"], "batch: must be from 1 to 4096, not 0"),
        (["--batch", "-4"], "batch: must be from 1 to 4096, not -4"),
        (["--steps", "0"], "--steps"),
        (["--device", "tpu"], "device: must be auto"),
    ],
)
def test_invalid_options_are_named(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    try:
        status = main(["benchmark", "train", *arguments])
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_any_batch_can_be_measured() -> None:
    for batch in range(1, 70):
        config = benchmark._config("ffhq-512", batch, {}, ablation=False, on_cpu=False)
        assert config.batch == batch
        assert batch % config.minibatch_group == 0


def test_a_failure_leaves_a_row_in_the_table() -> None:
    config = PRESETS["tiny-32"].config
    failed = Measurement("tiny-32", "all kept", config, 1 << 30, failure="x" * 500)
    rows = benchmark._table([Measurement("tiny-32", "in chunks", config, 1 << 30, Cost(2.0, 1 << 30)), failed])
    assert "x" * benchmark.NOTE_LENGTH in rows
    assert max(map(len, rows.splitlines())) < 150
