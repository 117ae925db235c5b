"""How many threads torch's operations use on a CPU, decided by a trial.

Operations of small networks are short. On a busy machine a thread that waits for its core holds up all others at the
end of every operation, so that two threads can be ten times slower than one.
"""

import os
import time
from collections.abc import Callable

import torch

from model.training.config import TrainingConfig
from model.training.state import new_discriminator

TRIAL_SECONDS = 0.5
"""Time that the trial takes, or one round if that takes longer."""

MAX_IMAGES = 4
"""Images of the trial's batch."""


def choose_threads(config: TrainingConfig) -> str | None:
    """Sets torch's threads to one or to all, whichever is faster now, and returns a line that says so.

    None if there is nothing to choose: there is one thread, or OMP_NUM_THREADS is set.
    """
    available = torch.get_num_threads()
    if available == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    seconds = time_threads((1, available), _discriminator_pass(config))
    chosen, other = sorted(seconds, key=seconds.__getitem__)
    torch.set_num_threads(chosen)
    ratio = seconds[other] / seconds[chosen]
    return f"{chosen} of {available} threads: now {ratio:.2g}× as fast as {other}; OMP_NUM_THREADS=N decides otherwise"


def time_threads(
    counts: tuple[int, int], work: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Seconds that some work took with each number of threads, in alternating rounds."""
    seconds = dict.fromkeys(counts, 0.0)
    while sum(seconds.values()) < TRIAL_SECONDS:
        for count in counts:
            torch.set_num_threads(count)
            work()  # creates threads and chooses algorithms
            start = clock()
            work()
            seconds[count] += clock() - start
    return seconds


def _discriminator_pass(config: TrainingConfig) -> Callable[[], None]:
    """A forward and backward pass of the run's discriminator."""
    with torch.random.fork_rng(devices=[]):
        discriminator = new_discriminator(config)
    count, side = min(config.batch, MAX_IMAGES), config.generator.resolution
    images, label = torch.zeros(count, 3, side, side), torch.zeros(count, config.generator.classes)

    def work() -> None:
        torch.autograd.backward(discriminator(images, label, torch.zeros(count, 3)).sum())

    return work
