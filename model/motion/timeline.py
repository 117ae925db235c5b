"""Timelines: keyframes, and the state of every frame between them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.geometry.transforms import Transform, parse_transforms
from model.latents.latent import Latent
from model.motion.blend import blend, pair_transforms
from model.motion.pace import Pace
from model.motion.walk import WalkKind, check_sphere
from model.motion.zoom import Zoom, zoom
from model.viewport import Region

Easing = Literal["linear", "ease-in", "ease-out", "ease-in-out"]
EASINGS: dict[Easing, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
    "ease-in-out": lambda t: t * t * (3 - 2 * t),
}
DEFAULT_EASING: Easing = "ease-in-out"

FRAME_RATES = (1.0, 120.0)
DEFAULT_FRAME_RATE = 30.0

MAX_FRAMES = 36_000
"""Twenty minutes at 30 frames per second."""

MAX_KEYFRAMES = 256

MAX_CELLS = 64


@dataclass(frozen=True)
class Keyframe:
    """What a video shows at a time.

    Attributes:
        time: in seconds from the start.
        latents: one for each cell of the video's grid.
        region: of the plane, as a viewport's.
        transform: as a viewport's.
        easing: how the time from this keyframe to the next passes.
        zoom: the way from this region to the next.
    """

    time: float
    latents: tuple[Latent, ...]
    region: Region
    transform: tuple[Transform, ...] = ()
    easing: Easing = DEFAULT_EASING
    zoom: Zoom = "direct"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "time": self.time,
            "latents": [latent.to_dict() for latent in self.latents],
            "region": self.region,
            "transform": [each.to_json() for each in self.transform],
            "easing": self.easing,
            "zoom": self.zoom,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Keyframe":
        """Inverse of :meth:`to_dict`, for trusted values."""
        latents = tuple(map(Latent.from_dict, values["latents"]))
        x0, y0, x1, y1 = values["region"]
        transform = parse_transforms(values["transform"])
        return cls(values["time"], latents, (x0, y0, x1, y1), transform, values["easing"], values["zoom"])


@dataclass(frozen=True)
class Frame:
    """What one frame shows. ``time`` is that of the keyframes' latents, after easing."""

    time: float
    region: Region
    transform: tuple[Transform, ...]


@dataclass(frozen=True)
class Timeline:
    """The frames between keyframes.

    Attributes:
        keyframes: by time; the first at 0.
        fps: frames per second.
        loop: the last keyframe is the first again and is not shown twice.
        walk: what is interpolated between latents: their styles w+, or z on its sphere.
        pace: frames are as far from each other in time, or in perceived change: then times only order keyframes.

    Raises:
        InputError: ``keyframes``, ``fps`` or ``loop`` is invalid, or there are too many frames.
    """

    keyframes: Sequence[Keyframe]
    fps: float = DEFAULT_FRAME_RATE
    loop: bool = False
    walk: WalkKind = "w"
    pace: Pace = "time"

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyframes", tuple(self.keyframes))
        check_frame_rate(self.fps)
        if not 2 <= len(self.keyframes) <= MAX_KEYFRAMES:
            raise InputError("keyframes", f"must be from 2 to {MAX_KEYFRAMES}, not {len(self.keyframes)}")
        self._check_times()
        for index, (before, after) in enumerate(pairwise(self.keyframes), 1):
            try:
                pair_transforms(before.transform, after.transform)
            except InputError as error:
                raise InputError(f"keyframes[{index}].transform", error.message) from None
        for index, keyframe in enumerate(self.keyframes):
            if keyframe.easing not in get_args(Easing):
                raise InputError(f"keyframes[{index}].easing", f"must be one of {', '.join(EASINGS)}")
            if keyframe.zoom not in get_args(Zoom):
                raise InputError(f"keyframes[{index}].zoom", f"must be one of {', '.join(get_args(Zoom))}")
            if not len(keyframe.latents) == len(self.keyframes[0].latents) <= MAX_CELLS:
                raise InputError(
                    f"keyframes[{index}].latents", f"must be one for each cell, of which are at most {MAX_CELLS}"
                )
        if self.walk not in get_args(WalkKind):
            raise InputError("walk", f"must be one of {', '.join(get_args(WalkKind))}, not {self.walk!r}")
        if self.pace not in get_args(Pace):
            raise InputError("pace", f"must be one of {', '.join(get_args(Pace))}, not {self.pace!r}")
        if self.walk == "z":
            for latents in zip(*(keyframe.latents for keyframe in self.keyframes), strict=True):
                check_sphere(latents)
        if self.loop and self.keyframes[0].latents != self.keyframes[-1].latents:
            raise InputError("loop", "needs a last keyframe with the latents of the first")
        if self.frames > MAX_FRAMES:
            raise InputError("keyframes", f"make {self.frames} frames, above the limit of {MAX_FRAMES}")

    def _check_times(self) -> None:
        times = [keyframe.time for keyframe in self.keyframes]
        if times[0] != 0:
            raise InputError("keyframes[0].time", "must be 0")
        for index, (before, after) in enumerate(pairwise(times), 1):
            if not before < after < math.inf:  # also refuses NaN
                raise InputError(f"keyframes[{index}].time", "must be finite, and after that of the keyframe before")

    @property
    def frames(self) -> int:
        """Number of frames."""
        count = round(min(self.duration * self.fps, 1e12))
        return max(1, count if self.loop else count + 1)

    @property
    def duration(self) -> float:
        """Seconds from the first keyframe to the last."""
        return self.keyframes[-1].time

    @property
    def times(self) -> NDArray[np.float64]:
        """The times of the frames, unless their pace is another."""
        times: NDArray[np.float64] = np.minimum(np.arange(self.frames) / self.fps, self.duration)
        return times

    def at(self, time: float) -> Frame:
        """The state at a time. Raises InputError if a transform between those of keyframes is invalid."""
        k = max(k for k in range(len(self.keyframes) - 1) if self.keyframes[k].time <= time)
        start, end = self.keyframes[k], self.keyframes[k + 1]
        step = end.time - start.time
        t = EASINGS[start.easing](_snap((time - start.time) / step))
        region, transform = zoom(start.region, end.region, t, start.zoom), blend(start.transform, end.transform, t)
        return Frame(end.time if t == 1 else start.time + t * step, region, transform)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"keyframes": [each.to_dict() for each in self.keyframes], "fps": self.fps} | {
            "loop": self.loop,
            "walk": self.walk,
            "pace": self.pace,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Timeline":
        """Inverse of :meth:`to_dict`, for trusted values."""
        return cls(
            tuple(map(Keyframe.from_dict, values["keyframes"])),
            values["fps"],
            values["loop"],
            values["walk"],
            values["pace"],
        )


def check_frame_rate(fps: float) -> None:
    """Raise InputError if a frame rate is invalid."""
    low, high = FRAME_RATES
    if not low <= fps <= high:
        raise InputError("fps", f"must be from {low:g} to {high:g}, not {fps:g}")


def _snap(t: float) -> float:
    """0 and 1 where only rounding keeps t from them: a frame at the time of a keyframe is the keyframe."""
    nearest = round(t)
    return nearest if abs(t - nearest) < 1e-9 else t
