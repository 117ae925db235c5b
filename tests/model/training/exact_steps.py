"""Steps of a tiny recipe in fp64, where rounding cannot hide or feign a difference; a program for torchrun, too.

torchrun --nproc-per-node 2 -m tests.model.training.exact_steps LOSS FILE
"""

import sys
import time
from pathlib import Path

import torch

from model.training.config import TrainingConfig
from model.training.processes import Processes, join
from model.training.state import TrainingState
from model.training.step import TrainingStep
from tests.model.training.pictures import tiny_config

STEPS = 6
"""More than the interval of any penalty or average of :func:`recipe`."""


def recipe(loss: str, microbatch: int = 0) -> TrainingConfig:
    """With every penalty and average that parts and processes have to agree on."""
    return tiny_config(
        batch=8, minibatch_group=2, microbatch=microbatch, loss=loss, precision="fp32", ada_kimg=0.05, chunk_pixels=128
    )


def take_steps(config: TrainingConfig, processes: Processes) -> TrainingState:
    """The state after STEPS steps with random pictures."""
    state = TrainingState(config, torch.device("cpu"))
    state.path_length_mean = state.path_length_mean.double()
    for network in (state.generator, state.discriminator, state.average):
        network.double()
    step, random = TrainingStep(state, processes), torch.Generator().manual_seed(5)
    for _ in range(STEPS):
        real = torch.rand(config.batch, 3, 8, 8, generator=random, dtype=torch.float64) * 2 - 1
        step(processes.share(real), None)
    return state


def gloo_threads(patience: float = 60.0) -> list[str]:
    """Names of torch's communicating threads that do not end. Only Linux tells."""
    end = time.monotonic() + patience
    while True:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        found = [name for name in names if "gloo" in name]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join(torch.device("cpu")) as (joined, _):
        result = take_steps(recipe(sys.argv[1]), joined)
        if joined.first:
            torch.save(result.to_dict(), Path(sys.argv[2]))
    if left := gloo_threads():
        sys.exit(f"threads that would abort Python's end now and then: {left}")
