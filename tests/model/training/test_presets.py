"""The presets, settings that follow from overridden ones, and estimates of memory and work."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.training.__main__ import _parser
from model.training.config import TrainingConfig
from model.training.distributed import Distributed
from model.training.presets import PRESETS, resolve
from model.training.profiling import estimate
from model.training.profiling.estimate import training_flops
from model.training.profiling.memory import MemoryTracker, estimate_peak_memory
from model.training.state import TrainingState
from model.training.step import TrainingStep
from service.cli import main
from tests.model.data.images import tiny_config, write_images

CPU = torch.device("cpu")


def test_presets_survive_their_own_dictionary() -> None:
    for preset in PRESETS.values():
        assert TrainingConfig.from_dict(json.loads(json.dumps(preset.config.to_dict()))) == preset.config


@pytest.mark.parametrize(
    ("name", "batch", "gamma", "ema_kimg", "channels"),
    [("ffhq-128", 128, 0.5, 40.0, 512), ("ffhq-512", 32, 10.0, 10.0, 128), ("ffhq-1024", 8, 32.0, 2.5, 64)],
)
def test_presets_of_the_paper(name: str, batch: int, gamma: float, ema_kimg: float, channels: int) -> None:
    config = PRESETS[name].config
    assert (config.batch, config.gamma, config.ema_kimg) == (batch, gamma, ema_kimg)
    assert (config.learning_rate, config.r1_interval, config.total_kimg) == (0.002, 16, 25_000)
    assert (config.path_length_weight, config.path_length_interval) == (2, 4)
    assert (config.augmentation, config.ada_target, config.mirror) == ("ada", 0.6, True)
    assert config.generator.channels[-1] == channels
    state = TrainingState(replace(config, generator=PRESETS["tiny-32"].config.generator), CPU)
    for optimizer, interval in ((state.generator_optimizer, 4), (state.discriminator_optimizer, 16)):
        (group,) = optimizer.param_groups
        ratio = interval / (interval + 1)
        assert group["lr"] == pytest.approx(0.002 * ratio)
        assert group["betas"] == pytest.approx((0.0, 0.99**ratio))


def test_values_follow_from_others_unless_they_are_given() -> None:
    config = resolve("ffhq-512", {"batch": 64}, {"resolution": 256})
    assert (config.gamma, config.ema_kimg) == (2.5, 20.0)
    config = resolve("ffhq-512", {"batch": 64, "gamma": 1.0, "ema_kimg": 3.0}, {"resolution": 256})
    assert (config.gamma, config.ema_kimg) == (1.0, 3.0)
    config = resolve("ffhq-512", {"loss": "r3gan"}, {})
    assert (config.r1_interval, config.path_length_weight) == (1, 0.0)
    config = resolve("ffhq-512", {"ada_kimg": 50.0}, {}, transfer=True)
    assert (config.ada_kimg, config.ema_rampup) == (50.0, 0.0)


def test_a_dry_run_prints_settings_and_estimates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(estimate.MATRIX_SIDE, "cpu", 256)
    arguments = ["--preset", "tiny-32", "--thickness", "4", "--no-decoders", "--fusion", "last", "--device", "cpu"]
    assert main(["train", "--dry-run", *arguments, "--resolution", "8", "--gamma", "0.2"]) == 0
    printed = capsys.readouterr()
    config = TrainingConfig.from_dict(json.loads(printed.out))
    assert (config.generator.thickness, config.generator.decoders, config.generator.fusion) == (4, False, "last")
    assert (config.gamma, config.batch) == (0.2, PRESETS["tiny-32"].config.batch)
    assert "GiB" in printed.err
    assert "TFLOP per image" in printed.err
    assert "s for 1000 images" in printed.err
    assert "on one H100" in printed.err


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny-32", "small-64"])
def test_the_memory_of_a_dry_run_is_that_of_the_run(preset: str, tmp_path: Path) -> None:
    """Of whole processes, whose measured peaks count Python and torch."""
    config = PRESETS[preset].config
    write_images(tmp_path / "data", size=32)  # sample grids of 64² take longer than the steps
    command = [sys.executable, "-m", "service", "train", "--preset", preset, "--device", "cpu", "--resolution", "32"]
    dry = subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True)
    estimated = re.search(r"memory +([0-9.]+) GiB", dry.stderr)
    assert estimated
    options = ("--data", str(tmp_path / "data"), "--outdir", str(tmp_path / "run"), "--metrics", "none")
    subprocess.run([*command, *options, "--total-kimg", str(config.batch * 2 / 1000)], check=True, capture_output=True)
    *_, last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert 0.5 < float(estimated[1]) / json.loads(last)["memory_gib"] < 2


def test_a_dry_run_checks_the_data_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path)
    arguments = ["train", "--dry-run", "--preset", "tiny-32", "--device", "cpu", "--data", str(tmp_path)]
    assert main([*arguments, "--resolution", "16"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "data" in printed.err
    assert "TFLOP" not in printed.err


def test_every_option_of_training_has_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "half-life of the generator's moving average" in " ".join(capsys.readouterr().out.split())
    assert [action.option_strings for action in _parser()._actions if not action.help] == []


@pytest.mark.slow
@pytest.mark.xdist_group("estimates")  # which are cached
@pytest.mark.parametrize(
    "overrides",
    [
        {"augmentation": "none"},
        {"augmentation": "none", "precision": "fp32", "chunk_pixels": 128, "microbatch": 4},
    ],
)
def test_the_estimated_memory_is_that_of_a_real_step(overrides: dict[str, object]) -> None:
    config = tiny_config(batch=8, minibatch_group=2, **overrides)
    estimated = estimate_peak_memory(config)
    with MemoryTracker() as memory:
        state = TrainingState(config, CPU)
        scalars = TrainingStep(state, Distributed())(torch.zeros(8, 3, 8, 8), torch.zeros(8, 0))
    assert estimated == pytest.approx(memory.peak, rel=0.15)
    assert all(type(value) is torch.Tensor for value in scalars.values())  # the estimate left no fake tensors behind


@pytest.mark.slow
@pytest.mark.xdist_group("estimates")
def test_more_processes_need_less_memory_each() -> None:
    config = tiny_config(batch=8, minibatch_group=2, augmentation="none")
    assert estimate_peak_memory(config, processes=4) < 0.6 * estimate_peak_memory(config)


@pytest.mark.slow
def test_smaller_microbatches_need_less_memory() -> None:
    config = tiny_config(batch=16, minibatch_group=2, augmentation="none")
    assert estimate_peak_memory(replace(config, microbatch=2)) < 0.4 * estimate_peak_memory(config)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        pytest.param({"chunk_pixels": 128}, marks=pytest.mark.slow),
        pytest.param({"loss": "r3gan", "path_length_weight": 0.0, "r1_interval": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_estimated_work_is_that_of_real_steps(overrides: dict[str, object]) -> None:
    base: dict[str, object] = {"batch": 4, "r1_interval": 4, "augmentation": "diffaugment", "precision": "fp32"}
    config = tiny_config(**(base | overrides))
    step = TrainingStep(TrainingState(config, CPU), Distributed())
    with FlopCounterMode(display=False) as counter:
        for _ in range(4):
            step(torch.zeros(4, 3, 8, 8), torch.zeros(4, 0))
    assert training_flops(config) == pytest.approx(counter.get_total_flops() / 16, rel=0.25)
