"""The recipes, what follows from a value that is overridden, and what a recipe is told to need."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.training.config import TrainingConfig
from model.training.estimate import picture_flops
from model.training.presets import PRESETS, resolve
from model.training.processes import Processes
from model.training.rehearsal import LiveMemory, rehearse
from model.training.state import TrainingState
from model.training.step import TrainingStep
from service.cli import main
from tests.model.training.pictures import tiny_config

CPU = torch.device("cpu")


def test_presets_survive_their_own_dictionary() -> None:
    for preset in PRESETS.values():
        assert TrainingConfig.from_dict(json.loads(json.dumps(preset.config.to_dict()))) == preset.config


@pytest.mark.parametrize(
    ("name", "batch", "gamma", "ema_kimg", "channels"),
    [("ffhq-128", 128, 0.5, 40.0, 512), ("ffhq-512", 32, 10.0, 10.0, 128), ("ffhq-1024", 8, 32.0, 2.5, 64)],
)
def test_the_sources_recipes(name: str, batch: int, gamma: float, ema_kimg: float, channels: int) -> None:
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


def test_a_dry_run_prints_the_resolved_recipe_and_its_needs(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "tiny-32", "--thickness", "4", "--no-decoders", "--fusion", "last", "--device", "cpu"]
    assert main(["train", "--dry-run", *arguments, "--gamma", "0.2"]) == 0
    printed = capsys.readouterr()
    config = TrainingConfig.from_dict(json.loads(printed.out))
    assert (config.generator.thickness, config.generator.decoders, config.generator.fusion) == (4, False, "last")
    assert (config.gamma, config.batch) == (0.2, PRESETS["tiny-32"].config.batch)
    assert "GiB" in printed.err
    assert "TFLOP a picture" in printed.err
    assert "s or more for 1000 pictures" in printed.err


@pytest.mark.parametrize("overrides", [{}, {"precision": "fp32", "chunk_pixels": 64, "microbatch": 2}])
def test_a_rehearsal_counts_what_a_real_step_takes(overrides: dict[str, object]) -> None:
    config = tiny_config(batch=8, minibatch_group=2, **overrides)
    with LiveMemory() as memory:
        state = TrainingState(config, CPU)
        TrainingStep(state, Processes())(torch.zeros(8, 3, 8, 8), None)
    rehearsed = rehearse(config)
    assert rehearsed.peak == pytest.approx(memory.peak, rel=0.15)
    assert rehearsed.resting < memory.peak


def test_more_processes_and_smaller_parts_need_less_each() -> None:
    config = tiny_config(batch=16, minibatch_group=2)
    whole = rehearse(config).peak
    assert rehearse(config, processes=2).peak < 0.7 * whole
    assert rehearse(replace(config, microbatch=2)).peak < 0.4 * whole


@pytest.mark.parametrize(
    "overrides", [{}, {"loss": "r3gan", "path_length_weight": 0.0, "r1_interval": 1}, {"chunk_pixels": 64}]
)
def test_the_count_of_work_is_that_of_real_steps(overrides: dict[str, object]) -> None:
    plain: dict[str, object] = {"batch": 4, "r1_interval": 8, "augmentation": "diffaugment", "precision": "fp32"}
    config = tiny_config(**(plain | overrides))
    step = TrainingStep(TrainingState(config, CPU), Processes())
    with FlopCounterMode(display=False) as counter:
        for _ in range(8):
            step(torch.zeros(4, 3, 8, 8), None)
    assert picture_flops(config) == pytest.approx(counter.get_total_flops() / 32, rel=0.25)


def test_a_rehearsal_leaves_nothing_without_values_behind() -> None:
    config = tiny_config()
    rehearse(config)
    scalars = TrainingStep(TrainingState(config, CPU), Processes())(torch.zeros(4, 3, 8, 8), None)
    assert all(type(value) is torch.Tensor for value in scalars.values())
