"""Measures time and peak memory of training steps and of drawing an image, in the current process."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch

from model.config import GeneratorConfig
from model.generator import Generator
from model.render import render
from model.training.config import TrainingConfig
from model.training.distributed import Distributed
from model.training.patches import choose_patches
from model.training.sample_grids import one_hot
from model.training.state import TrainingState
from model.training.step import TrainingStep
from model.util.measuring import peak_memory
from model.viewport import Viewport


@dataclass(frozen=True)
class Cost:
    """Measured time and memory.

    Attributes:
        seconds: for training with 1000 images, or for drawing one.
        peak_bytes: peak memory of the process: tensors on a GPU; on a CPU all of it, with Python and torch.
        step_seconds: median time of each kind of training step, see :func:`step_kinds`.
    """

    seconds: float
    peak_bytes: int
    step_seconds: dict[str, float] = field(default_factory=dict)


def measure_training(config: TrainingConfig, device_name: str, steps: int) -> Cost:
    """Times ``steps`` steps of each kind on random images, after a warm-up step with all penalties."""
    device = torch.device(device_name)
    state = TrainingState(config, device)
    step = TrainingStep(state, Distributed())
    side = config.generator.resolution
    real = torch.rand(config.batch, 3, side, side, device=device) * 2 - 1
    patches = choose_patches(config, [round(side * config.generator.max_scale)] * config.batch, 0)
    label = one_hot(torch.zeros(config.batch, dtype=torch.int64, device=device), config.generator.classes)

    def seconds(number: int) -> float:
        state.steps = number
        return _timed(lambda: step(real, label, patches), device)

    kinds = step_kinds(config)
    seconds(0)
    step_seconds = {kind: median(seconds(number) for _ in range(steps)) for kind, (number, _) in kinds.items()}
    mean = sum(fraction * step_seconds[kind] for kind, (_, fraction) in kinds.items())
    return Cost(1000 * mean / config.batch, peak_memory(device), step_seconds)


def step_kinds(config: TrainingConfig) -> dict[str, tuple[int, float]]:
    """Kinds of steps, named by the penalties that are due: number of the first such step, and fraction of all steps."""
    penalties = {
        "path length": (config.path_length_weight, config.path_length_interval),
        "gradient penalty": (config.gamma, config.r1_interval),
    }
    intervals = {name: interval for name, (weight, interval) in penalties.items() if weight}
    period = math.lcm(*intervals.values())
    numbers = defaultdict(list)
    for number in range(period):
        due = [name for name, interval in intervals.items() if number % interval == 0]
        numbers[" and ".join(due) or "no penalty"].append(number)
    return {kind: (found[0], len(found) / period) for kind, found in numbers.items()}


def measure_drawing(config: GeneratorConfig, device_name: str, repeats: int) -> Cost:
    """Median time of drawing an image at the training resolution with the PyTorch generator, after one warm-up."""
    device = torch.device(device_name)
    generator = Generator(config).to(device).eval()
    viewport = Viewport.resolve(config.resolution, config.resolution)
    ws = torch.randn(1, config.num_ws, config.w_dim, device=device)
    durations = [_timed(lambda: render(generator, ws, viewport), device) for _ in range(repeats + 1)]
    return Cost(median(durations[1:]), peak_memory(device))


def _timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has finished."""
    begin = _synchronized_time(device)
    function()
    return _synchronized_time(device) - begin


def _synchronized_time(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
