"""How long a run takes: what a dry run and the first steps of a run tell."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.training import __main__ as command
from model.training.config import TrainingConfig
from model.training.forecast import SECONDS, STEPS, Forecast
from model.training.loop import train
from model.training.presets import PRESETS
from model.training.profiling import estimate as module
from model.training.profiling.estimate import describe_gpus, estimate, training_flops
from model.training.profiling.measure import Cost
from model.util.text import duration
from service.cli import main
from tests.model.data.images import tiny_config, tiny_data

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "estimate_peak_memory", lambda *_: 1 << 28)  # slower than all else here


def take_time(seconds: float, trials: list[TrainingConfig]) -> Callable[..., Cost]:
    """In place of steps: each image takes so long."""

    def measure(config: TrainingConfig, *_: object) -> Cost:
        trials.append(config)
        return Cost(1000 * seconds, 0)

    return measure


def test_the_estimate_is_that_of_timed_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    trials: list[TrainingConfig] = []
    monkeypatch.setattr(module, "measure_training", take_time(0.5, trials))
    config = tiny_config(batch=16, minibatch_group=4, total_kimg=7.2)
    text = estimate(config, 1, CPU)
    assert "500 s for 1000 images, 60 min in total, by steps of 16 images that were timed" in text
    assert "250 s for 1000 images, 30 min in total, by steps of 8 images" in estimate(config, 2, CPU)
    assert trials == [config, replace(config, batch=8)]
    assert "by steps of 4 images" in estimate(replace(config, microbatch=4), 1, CPU)  # more may not fit into memory


def test_fewer_images_are_timed_if_they_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole minibatch groups; and if the run computes its activations twice, that is counted."""
    trials: list[TrainingConfig] = []
    monkeypatch.setattr(module, "measure_training", take_time(0.5, trials))
    config = tiny_config(batch=16, minibatch_group=4, r1_interval=1, path_length_weight=0.0, chunk_pixels=8 * 64)
    monkeypatch.setattr(module, "measure_matmul_rate", lambda *_: 10 * training_flops(config) / 5 * 2)
    text = estimate(config, 1, CPU)
    assert "by steps of 8 images" in text
    (trial,) = trials
    seconds = 500 * training_flops(config) / training_flops(trial)
    assert seconds > 510
    assert f"time    {seconds:.3g} s for 1000 images" in text


def test_steps_that_take_minutes_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    monkeypatch.setattr(module, "measure_matmul_rate", lambda *_: training_flops(config) / 60)
    assert "6e+04 s for 1000 images, 24 min in total, or more, by the rate of" in estimate(config, 1, CPU)


def test_gpus_need_their_arithmetic_or_their_launches() -> None:
    small, large = PRESETS["tiny-32"].config, PRESETS["ffhq-512"].config
    expected = "about 75 s on one RTX 4090, 75 s on one A100, 75 s on one H100: not measured, but estimated from "
    assert describe_gpus(small).startswith(expected)
    seconds = large.total_kimg * 1000 * training_flops(large) / (989e12 / 4)
    assert f"{duration(seconds)} on one H100" in describe_gpus(large)
    assert f"{duration(seconds / 2)} on one H100" in describe_gpus(large, large.total_kimg * 500)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (140, "2.3 min"), (5000, "83 min"), (12_600, "3.5 h"), (1e6, "12 days"), (1e9, "11,574 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("step", "told_after"), [(2.0, STEPS), (SECONDS + 1, 1)])
def test_the_first_steps_tell_how_long_it_takes(step: float, told_after: int) -> None:
    """The very first one does not count. A line comes once."""
    config, now = tiny_config(batch=4, total_kimg=0.4), 0.0
    forecast = Forecast(config, lambda: now)
    lines = []
    for number in range(1, 41):
        now += 100.0 if number == 1 else step
        lines.append(forecast.after_step(4 * number))
    told = [number for number, line in enumerate(lines) if line]
    assert told == [told_after]
    left = step * (100 - told_after - 1)
    assert (line := lines[told_after])
    assert line.startswith(f"about {duration(left)} left on this CPU, by the last ")
    assert "on one A100" in line


def test_a_run_on_a_cpu_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.forecast.STEPS", 2)
    train(tiny_config(), tiny_data(tmp_path / "data"), tmp_path / "run", CPU)
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert ["left on this CPU, by the last 2 steps" in line for line in lines].count(True) == 1


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_for_cpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_bf16: bool, precision: str
) -> None:
    monkeypatch.setattr(command, "multiplies_bf16", lambda: has_bf16)
    monkeypatch.setattr(module, "measure_training", take_time(0.5, []))
    monkeypatch.setattr(module, "measure_matmul_rate", lambda *_: 1e9)
    arguments = ["train", "--dry-run", "--preset", "small-64", "--resolution", "8", "--device", "cpu"]
    for options, expected in (([], precision), (["--precision", "bf16"], "bf16")):
        assert main([*arguments, *options]) == 0
        assert json.loads(capsys.readouterr().out)["precision"] == expected
