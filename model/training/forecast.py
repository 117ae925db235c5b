"""How long a run will take, told once its first steps were timed."""

import time
from collections.abc import Callable

from model.training.config import TrainingConfig
from model.training.profiling.estimate import describe_gpus
from model.util.text import duration

STEPS = 16
"""Steps that are timed: with the default settings one of them has the gradient penalty."""

SECONDS = 60.0
"""Time after which fewer steps are enough."""


class Forecast:
    """Tells early in a run on a CPU how long it takes there, and about how long on GPUs."""

    def __init__(self, config: TrainingConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._start = 0.0
        self._steps = -1  # the first step is slower
        self._is_told = False

    def after_step(self, images: int) -> str | None:
        """The line to print after the step that ended at ``images``, if it is the one to do so."""
        self._steps += 1
        if self._steps == 0:
            self._start = self._clock()
        elapsed = self._clock() - self._start
        if self._is_told or not self._steps or (self._steps < STEPS and elapsed < SECONDS):
            return None
        self._is_told = True
        left = self._config.total_kimg * 1000 - images
        seconds = elapsed / (self._steps * self._config.batch) * left
        timed = f"by the last {self._steps} steps" if self._steps > 1 else "by the last step"
        return f"about {duration(seconds)} left on this CPU, {timed}; {describe_gpus(self._config, left)}"
