"""What a training step and a picture cost the process that takes them: seconds, and memory at the most."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

import torch

from model.config import GeneratorConfig
from model.drawing import draw
from model.generator import Generator
from model.measuring import peak_memory
from model.training.config import TrainingConfig
from model.training.grids import one_hot
from model.training.processes import Processes
from model.training.state import TrainingState
from model.training.step import TrainingStep
from model.viewport import Viewport


@dataclass(frozen=True)
class Cost:
    """What a process that did nothing else measured.

    Attributes:
        seconds: for a thousand pictures of training, or for one that is drawn.
        peak_bytes: the most that it held: on a GPU in tensors, on a CPU in all, Python and torch themselves included.
        step_seconds: medians of each kind of training step, by the penalties that are due in it.
    """

    seconds: float
    peak_bytes: int
    step_seconds: dict[str, float] = field(default_factory=dict)


def measure_training(config: TrainingConfig, device_name: str, steps: int) -> Cost:
    """Takes so many steps of each kind and weights their medians by how often each kind comes.

    Pictures are random, since what they show does not change the work. One step that is not timed comes first; all
    penalties are due in it, so nothing is done for the first time later.
    """
    device = torch.device(device_name)
    state = TrainingState(config, device)
    step = TrainingStep(state, Processes())
    side, classes = config.generator.resolution, config.generator.classes
    real = torch.rand(config.batch, 3, side, side, device=device) * 2 - 1
    label = one_hot(torch.zeros(config.batch, dtype=torch.int64, device=device), classes)

    def seconds(number: int) -> float:
        state.steps = number
        return _timed(lambda: step(real, label), device)

    kinds = step_kinds(config)
    seconds(0)
    step_seconds = {kind: median(seconds(number) for _ in range(steps)) for kind, (number, _) in kinds.items()}
    average = sum(part * step_seconds[kind] for kind, (_, part) in kinds.items())
    return Cost(1000 * average / config.batch, peak_memory(device), step_seconds)


def step_kinds(config: TrainingConfig) -> dict[str, tuple[int, float]]:
    """Kinds of steps by the penalties that are due: the number of the first one, and its part of all steps."""
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


def measure_drawing(config: GeneratorConfig, device_name: str, pictures: int) -> Cost:
    """Draws so many pictures at the training resolution by the readable network; the median counts, after one more."""
    device = torch.device(device_name)
    generator = Generator(config).to(device).eval()
    viewport = Viewport.resolve(config.resolution, config.resolution)
    ws = torch.randn(1, config.num_ws, config.w_dim, device=device)
    durations = [_timed(lambda: draw(generator, ws, viewport), device) for _ in range(pictures + 1)]
    return Cost(median(durations[1:]), peak_memory(device))


def _timed(function: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
