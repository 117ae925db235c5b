"""What the steps between two lines of the log measured, gathered without waiting for the device."""

import torch
from torch import Tensor

from model.errors import InputError
from model.training.processes import Processes

ADVICE = "the snapshots before it are kept; try a larger gamma, a smaller learning_rate, or precision fp32"


class Scalars:
    """Scalars of each step by name; some names come at some steps only."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._steps: dict[str, list[int]] = {}

    def add(self, step: int, scalars: dict[str, Tensor]) -> None:
        """Remembers one step's scalars, which stay on their device."""
        for name, value in scalars.items():
            self._values.setdefault(name, []).append(value.detach().float())
            self._steps.setdefault(name, []).append(step)

    def take_means(self, processes: Processes) -> dict[str, float]:
        """Means over the steps and over the processes, by name; forgets the steps.

        Raises:
            InputError: a value is not a number or infinite, in all processes alike; names the scalar and the step.
        """
        means = {}
        for name, values in self._values.items():
            averaged = processes.average(torch.stack(values)).cpu()
            if not averaged.isfinite().all():
                step = self._steps[name][int(averaged.isfinite().logical_not().nonzero()[0])]
                raise InputError(name, f"is {averaged[~averaged.isfinite()][0].item()} at step {step}; {ADVICE}")
            means[name] = averaged.mean().item()
        self._values.clear()
        self._steps.clear()
        return means
