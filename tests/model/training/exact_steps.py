"""Training steps of a tiny network in fp64, where rounding neither hides nor causes a difference.

Also a program: torchrun --nproc-per-node 2 -m tests.model.training.exact_steps LOSS FILE [patches]
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from model.training.config import TrainingConfig
from model.training.distributed import Distributed, init_distributed
from model.training.patches import choose_patches
from model.training.state import TrainingState
from model.training.step import TrainingStep
from tests.model.data.images import tiny_config

STEPS = 5
"""More than the interval of every penalty and running mean of :func:`exact_config`."""


def exact_config(loss: str, microbatch: int = 0, patches: bool = False) -> TrainingConfig:
    """With every penalty and running mean on which microbatches and processes have to agree."""
    return tiny_config(
        generator=replace(tiny_config().generator, max_scale=4.0 if patches else 1.0),
        patches=patches,
        supersampling=3,
        seed=3,
        batch=8,
        minibatch_group=2,
        microbatch=microbatch,
        loss=loss,
        precision="fp32",
        ada_kimg=0.05,
        chunk_pixels=128,
    )


def take_steps(config: TrainingConfig, distributed: Distributed) -> TrainingState:
    """The state after STEPS steps with random images."""
    state = TrainingState(config, torch.device("cpu"))
    state.path_length_mean = state.path_length_mean.double()
    for network in (state.generator, state.discriminator, state.generator_ema):
        network.double()
    step, random = TrainingStep(state, distributed), torch.Generator().manual_seed(5)
    for _ in range(STEPS):
        real = distributed.shard(torch.rand(config.batch, 3, 8, 8, generator=random, dtype=torch.float64) * 2 - 1)
        patches = choose_patches(config, [40] * config.batch, state.images)[distributed.rank :: distributed.size]
        step(real, torch.zeros(len(real), 0), patches)
    return state


def gloo_threads(timeout: float = 60.0) -> list[str]:
    """Names of gloo's threads that do not end. Only Linux lists them."""
    end = time.monotonic() + timeout
    while True:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        found = [name for name in names if "gloo" in name]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with init_distributed(torch.device("cpu")) as (processes, _):
        result = take_steps(exact_config(sys.argv[1], patches="patches" in sys.argv[3:]), processes)
        if processes.is_main:
            torch.save(result.to_dict(), Path(sys.argv[2]))
    if threads := gloo_threads():
        sys.exit(f"these threads would sometimes abort Python's shutdown: {threads}")
