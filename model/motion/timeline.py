"""Timelines: keyframes, and the state of every frame between them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from model.errors import InputError
from model.geometry.transforms import MAX_DEGREES
from model.latents.latent import Latent
from model.motion.zoom import zoom
from model.viewport import Region

Easing = Literal["linear", "ease-in", "ease-out", "ease-in-out"]
EASINGS: dict[Easing, Callable[[float], float]] = {
    "linear": lambda t: t,
    "ease-in": lambda t: t * t,
    "ease-out": lambda t: t * (2 - t),
    "ease-in-out": lambda t: t * t * (3 - 2 * t),
}

FRAME_RATES = (1.0, 120.0)

MAX_FRAMES = 36_000
"""Twenty minutes at 30 frames per second."""

MAX_KEYFRAMES = 256


@dataclass(frozen=True)
class Keyframe:
    """What a video shows at a time.

    Attributes:
        time: in seconds from the start.
        region: of the plane, as a viewport's.
        rotate: degrees clockwise about the centre of the unit square.
        easing: how the time from this keyframe to the next passes.
    """

    time: float
    latent: Latent
    region: Region
    rotate: float = 0.0
    easing: Easing = "linear"


@dataclass(frozen=True)
class Frame:
    """What one frame shows. ``time`` is that of the keyframes' latents, after easing."""

    time: float
    region: Region
    rotate: float


@dataclass(frozen=True)
class Timeline:
    """The frames between keyframes.

    Attributes:
        keyframes: by time; the first at 0.
        fps: frames per second.
        loop: the last keyframe is the first again and is not shown twice.

    Raises:
        InputError: ``keyframes`` or ``fps`` is invalid, or there are too many frames.
    """

    keyframes: Sequence[Keyframe]
    fps: float
    loop: bool = False

    def __post_init__(self) -> None:
        low, high = FRAME_RATES
        if not low <= self.fps <= high:
            raise InputError("fps", f"must be from {low:g} to {high:g}, not {self.fps:g}")
        if not 2 <= len(self.keyframes) <= MAX_KEYFRAMES:
            raise InputError("keyframes", f"must be from 2 to {MAX_KEYFRAMES}, not {len(self.keyframes)}")
        times = [keyframe.time for keyframe in self.keyframes]
        if times[0] != 0 or not all(math.isfinite(time) for time in times):
            raise InputError("keyframes", "must have finite times, the first of them 0")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise InputError("keyframes", "must be in the order of their times, no two at one time")
        for keyframe in self.keyframes:
            if keyframe.easing not in get_args(Easing):
                raise InputError("keyframes", f"have an easing of {', '.join(EASINGS)}, not {keyframe.easing!r}")
            if not abs(keyframe.rotate) <= MAX_DEGREES:
                raise InputError("keyframes", f"have a rotation from {-MAX_DEGREES:g} to {MAX_DEGREES:g} degrees")
        if self.loop and self.keyframes[0].latent != self.keyframes[-1].latent:
            raise InputError("loop", "needs a last keyframe with the latent of the first")
        if self.frames > MAX_FRAMES:
            raise InputError("keyframes", f"make {self.frames} frames, above the limit of {MAX_FRAMES}")

    @property
    def frames(self) -> int:
        """Number of frames."""
        count = round(self.keyframes[-1].time * self.fps)
        return max(1, count if self.loop else count + 1)

    def frame(self, index: int) -> Frame:
        """The state of a frame."""
        time = min(index / self.fps, self.keyframes[-1].time)
        k = max(k for k in range(len(self.keyframes) - 1) if self.keyframes[k].time <= time)
        start, end = self.keyframes[k], self.keyframes[k + 1]
        step = end.time - start.time
        t = EASINGS[start.easing]((time - start.time) / step)
        rotate = start.rotate + (end.rotate - start.rotate) * t
        return Frame(start.time + t * step, zoom(start.region, end.region, t), rotate)
