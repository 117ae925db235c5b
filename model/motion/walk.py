"""Walks through latents: the latent of every moment between those of keyframes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.latents.latent import Latent, pack_floats
from model.motion.spline import Spline

WalkKind = Literal["w", "z"]

StylesOf = Callable[[Latent], NDArray[np.float32]]
"""The styles w+ [num_ws, w_dim] of a latent."""


class Walk(Protocol):
    """The latents of a cell over time.

    Between equal latents it stands still. At the times of latents it is the latent itself, so that images there have
    the bytes of any other image of the latent.
    """

    def at(self, time: float) -> Latent:
        """The latent at a time between the first and the last."""


class StyleWalk:
    """A cubic spline through the styles w+ of latents at times.

    Args:
        loop: the last latent is the first again.
    """

    def __init__(self, times: Sequence[float], latents: Sequence[Latent], styles: StylesOf, *, loop: bool) -> None:
        self._times, self._latents = np.array(times), latents
        self._curves: dict[int, Spline] = {}  # by the number of the step from one latent to the next
        for steps in _moving(latents):
            knots = slice(steps.start, steps.stop + 1)
            values = np.stack([styles(latent).flatten().astype(np.float64) for latent in latents[knots]])
            periodic = loop and len(steps) == len(latents) - 1
            self._curves |= dict.fromkeys(steps, Spline(self._times[knots], values, periodic=periodic))

    def at(self, time: float) -> Latent:
        k, t = _locate(self._times, time)
        if t in (0.0, 1.0) or k not in self._curves:
            return self._latents[k + round(t)]
        return Latent(w=pack_floats(self._curves[k](time)))


class SphereWalk:
    """Great circles from one z to the next, as z is normalised; ψ changes evenly. Class, styles and edits stay.

    ``z_dim`` is that of the network.
    """

    def __init__(self, times: Sequence[float], latents: Sequence[Latent], z_dim: int) -> None:
        self._times, self._latents = np.array(times), latents
        self._z = [latent.sample_z(z_dim)[0].astype(np.float64) for latent in latents]

    def at(self, time: float) -> Latent:
        k, t = _locate(self._times, time)
        before, after = self._latents[k : k + 2]
        if t in (0.0, 1.0) or before == after:
            return self._latents[k + round(t)]
        z = slerp(self._z[k], self._z[k + 1], t)
        return replace(before, seed=None, z=pack_floats(z), psi=before.psi + (after.psi - before.psi) * t)


def check_sphere(latents: Sequence[Latent]) -> None:
    """Raise InputError if a SphereWalk cannot go through these latents."""
    for latent in latents:
        if latent.seed is None and latent.z is None:
            raise InputError("walk", "through z needs latents that are seeds or z")
    if len({replace(latent, seed=None, z=None, psi=1.0) for latent in latents}) > 1:
        raise InputError("walk", "through z needs latents of one class, cutoff, styles and edits")


def slerp(start: NDArray[np.float64], end: NDArray[np.float64], t: float) -> NDArray[np.float64]:
    """Spherical linear interpolation (Shoemake 1985) of directions; the length changes evenly."""
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    angle = np.arccos(np.clip(start @ end / (lengths[0] * lengths[1]), -1.0, 1.0))
    if np.sin(angle) < 1e-6:  # one direction, or opposite ones, between which no way is the shortest
        return start + (end - start) * t
    direction = np.sin((1 - t) * angle) * start / lengths[0] + np.sin(t * angle) * end / lengths[1]
    length = lengths[0] + (lengths[1] - lengths[0]) * t
    point: NDArray[np.float64] = direction / np.sin(angle) * length
    return point


def _locate(times: NDArray[np.float64], time: float) -> tuple[int, float]:
    """The step that a time is in, and the part of it that has passed."""
    k = int(np.clip(np.searchsorted(times, time, side="right") - 1, 0, len(times) - 2))
    return k, float((time - times[k]) / (times[k + 1] - times[k]))


def _moving(latents: Sequence[Latent]) -> Iterator[range]:
    """Runs of steps from one latent to another one."""
    moves = [before != after for before, after in pairwise(latents)]
    for moving, steps in groupby(range(len(moves)), moves.__getitem__):
        if moving:
            numbers = list(steps)
            yield range(numbers[0], numbers[-1] + 1)
