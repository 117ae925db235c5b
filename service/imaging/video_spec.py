"""VideoSpec: a video, whose frames are rendered and encoded in groups of some."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.geometry.outside import Outside
from model.geometry.wrap import Wrap
from model.motion.pace import PROXY_SIDE
from model.motion.timeline import Timeline
from model.motion.walk import SphereWalk, StylesOf, StyleWalk, Walk
from model.spec import RenderSpec
from model.viewport import Grid, Viewport

VideoKind = Literal["mp4", "webm", "apng", "webp", "ffv1"]
VIDEO_KINDS: tuple[VideoKind, ...] = get_args(VideoKind)

SUFFIXES: dict[VideoKind, str] = {"mp4": "mp4", "webm": "webm", "apng": "apng", "webp": "webp", "ffv1": "mkv"}
KINDS_BY_SUFFIX: dict[str, VideoKind] = {suffix: kind for kind, suffix in SUFFIXES.items()}

NEED_PYAV: tuple[VideoKind, ...] = ("mp4", "webm", "ffv1")

HALVE_CHROMA: tuple[VideoKind, ...] = ("mp4", "webm")
"""Kinds with one chroma sample for four pixels (yuv420p), whose sides must therefore be even."""

MAX_SIDE = 8192
"""Longest side that common decoders take (H.264 level 6.2)."""

MAX_FRAME_PIXELS = 2**25
"""Largest frame: one is held in memory as pixels and as the encoder's copies."""

GROUP_PIXELS, GROUP_FRAMES = 2**26, (8, 24)
"""Pixels of a group of frames, and its smallest and largest number of frames: 8 at 3840×2160, 24 up to 1672². A group
is what a killed worker loses, and begins with a frame that is encoded without the others, which makes files larger."""

SAMPLED_FRAMES = 64
"""Frames that are checked before the work, and from which it is estimated."""


def is_video(kind: str) -> TypeGuard[VideoKind]:
    """Whether an output of jobs is a video."""
    return kind in VIDEO_KINDS


@dataclass(frozen=True)
class VideoSpec:
    """A video as one file. Equal specs give equal bytes.

    Attributes:
        model: digest of the checkpoint.
        z_dim: of its network.
        width, height: of a cell of the grid in pixels.
        columns: cells in a row of the grid.
        grid, outside, wrap: of all frames, as a viewport's.

    Raises:
        InputError: names the field (``output``, ``width``, ``height``, ``cells``) and its limit.
    """

    model: str
    z_dim: int
    kind: VideoKind
    timeline: Timeline
    width: int
    height: int
    columns: int = 1
    grid: Grid = "centers"
    outside: Outside = "extend"
    wrap: Wrap | None = None

    def __post_init__(self) -> None:
        if self.kind not in VIDEO_KINDS:
            raise InputError("output", f"must be one of {', '.join(VIDEO_KINDS)}, not {self.kind!r}")
        if self.cells % self.columns:
            raise InputError("cells", f"of {self.columns} columns cannot hold {self.cells} latents")
        for name, side in zip(("width", "height"), self.size, strict=True):
            if not 1 <= side <= MAX_SIDE:
                raise InputError(name, f"of a frame must be from 1 to {MAX_SIDE} pixels, not {side}")
            if side % 2 and self.kind in HALVE_CHROMA:
                raise InputError(name, f"of a frame of {self.kind} must be even, not {side}")
        if self.frame_pixels > MAX_FRAME_PIXELS:
            raise InputError("width", f"and height of a frame must be at most {MAX_FRAME_PIXELS} pixels in all")

    @property
    def cells(self) -> int:
        """Cells of the grid, each with a latent of its own."""
        return len(self.timeline.keyframes[0].latents)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame, the whole grid, in pixels."""
        return self.width * self.columns, self.height * (self.cells // self.columns)

    @property
    def frame_pixels(self) -> int:
        width, height = self.size
        return width * height

    @property
    def pixels(self) -> int:
        """Pixels of all frames."""
        return self.frame_pixels * self.timeline.frames

    @property
    def tiles(self) -> int:
        """Groups of frames, which jobs count as tiles."""
        return -(-self.timeline.frames // self._group)

    @property
    def _group(self) -> int:
        low, high = GROUP_FRAMES
        return min(max(low, GROUP_PIXELS // self.frame_pixels), high)

    def frames_of(self, group: int) -> range:
        """The frames of a group."""
        return range(group * self._group, min((group + 1) * self._group, self.timeline.frames))

    def viewport(self, time: float) -> Viewport:
        """The viewport of the cells at a time. Raises InputError if it is invalid."""
        shown = self.timeline.at(time)
        return Viewport.resolve(
            self.width, self.height, shown.region, None, self.grid, shown.transform, self.outside, self.wrap
        )

    def rendered_pixels(self, resolution: int, max_scale: float = 1.0) -> int:
        """Pixels that the network renders, of a long video an estimate. Raises InputError if a frame is invalid."""
        times = self.timeline.times
        sampled = times[np.linspace(0, len(times) - 1, min(len(times), SAMPLED_FRAMES)).round().astype(int)].tolist()
        total = sum(self.viewport(time).rendered_pixels(resolution, max_scale) for time in sampled)
        return math.ceil(total / len(sampled) * len(times)) * self.cells

    def work(self, tiles: int, _resolution: int, _max_scale: float = 1.0) -> float:
        """Pixels of the first ``tiles`` groups."""
        return min(tiles * self._group, self.timeline.frames) * self.frame_pixels

    def walks(self, styles: StylesOf) -> list[Walk]:
        """The latents of each cell over time. ``styles`` are the network's."""
        keyframes = self.timeline.keyframes
        times = [keyframe.time for keyframe in keyframes]
        cells = zip(*(keyframe.latents for keyframe in keyframes), strict=True)
        if self.timeline.walk == "z":
            return [SphereWalk(times, latents, self.z_dim) for latents in cells]
        return [StyleWalk(times, latents, styles, loop=self.timeline.loop) for latents in cells]

    def cell_specs(self, time: float, walks: Sequence[Walk]) -> list[RenderSpec]:
        """The cells at a time, row by row."""
        viewport, eased = self.viewport(time), self.timeline.at(time).time
        return [RenderSpec(self.model, walk.at(eased), viewport) for walk in walks]

    @property
    def proxy(self) -> "VideoSpec":
        """The same video in small, from which the pace of its frames is found."""
        return replace(self, kind="apng", width=PROXY_SIDE, height=PROXY_SIDE, columns=1)

    def compose(self, cells: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """A frame [H, W, 3] from its cells."""
        rows = [np.concatenate(cells[i : i + self.columns], axis=1) for i in range(0, len(cells), self.columns)]
        return np.concatenate(rows)

    @property
    def spec(self) -> RenderSpec:
        """The first cell of the first frame."""
        return RenderSpec(self.model, self.timeline.keyframes[0].latents[0], self.viewport(0.0))

    @property
    def suffix(self) -> str:
        """File suffix without the dot."""
        return SUFFIXES[self.kind]

    @property
    def name(self) -> str:
        """The file that is written last."""
        return f"video.{self.suffix}"

    def tile_name(self, group: int) -> str:
        """Path of a group within the video's folder."""
        return f"tiles/{group}"

    def to_json(self) -> str:
        """Canonical JSON: equal specs give equal text."""
        wrap = None if self.wrap is None else self.wrap.to_dict()
        values = {
            name: getattr(self, name) for name in ("model", "z_dim", "kind", "width", "height", "columns", "grid")
        }
        values |= {"outside": self.outside, "wrap": wrap, "timeline": self.timeline.to_dict()}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "VideoSpec":
        """The inverse of :meth:`to_json`. Raises ValueError, KeyError or TypeError for other text."""
        values: dict[str, Any] = json.loads(text)
        wrap = None if values["wrap"] is None else Wrap(**values["wrap"])
        return cls(**values | {"wrap": wrap, "timeline": Timeline.from_dict(values["timeline"])})
