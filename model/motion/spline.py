"""Cubic splines through keyframes."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Spline:
    """A curve through values [K, …] at increasing times [K], with continuous first and second derivatives.

    Args:
        periodic: the last value equals the first, and the curve goes on there as it began; else it ends straight.
    """

    def __init__(self, times: Array, values: Array, *, periodic: bool = False) -> None:
        self._times, self._values = times, values
        flat = values.reshape(len(values), -1)
        bends = np.zeros_like(flat)
        if len(times) > 2:
            bends = _periodic_bends(times, flat) if periodic else _natural_bends(times, flat)
        self._bends = bends.reshape(values.shape)  # second derivatives

    def __call__(self, time: float) -> Array:
        """The value [...] at a time between the first and the last."""
        k = int(np.clip(np.searchsorted(self._times, time, side="right") - 1, 0, len(self._times) - 2))
        step = self._times[k + 1] - self._times[k]
        b = (time - self._times[k]) / step
        a = 1 - b
        straight = a * self._values[k] + b * self._values[k + 1]
        bend = (a**3 - a) * self._bends[k] + (b**3 - b) * self._bends[k + 1]
        value: Array = straight + bend * step**2 / 6
        return value


def _natural_bends(times: Array, values: Array) -> Array:
    """Second derivatives that are 0 at both ends."""
    step, slope = _steps(times, values)
    matrix, right = np.eye(len(times)), np.zeros_like(values)
    for k in range(1, len(times) - 1):
        matrix[k, k - 1 : k + 2] = step[k - 1] / 6, (step[k - 1] + step[k]) / 3, step[k] / 6
        right[k] = slope[k] - slope[k - 1]
    return np.linalg.solve(matrix, right).astype(np.float64)


def _periodic_bends(times: Array, values: Array) -> Array:
    """Second derivatives that are equal at both ends, as are the first."""
    step, slope = _steps(times, values)
    count = len(times) - 1
    matrix, right = np.zeros((count, count)), slope - np.roll(slope, 1, axis=0)
    for k in range(count):
        matrix[k, (k - 1) % count] += step[k - 1] / 6
        matrix[k, k] += (step[k - 1] + step[k]) / 3
        matrix[k, (k + 1) % count] += step[k] / 6
    bends = np.linalg.solve(matrix, right)
    return np.concatenate([bends, bends[:1]])


def _steps(times: Array, values: Array) -> tuple[Array, Array]:
    step = np.diff(times)
    return step, np.diff(values, axis=0) / step[:, None]
