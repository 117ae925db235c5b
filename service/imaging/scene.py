"""Scenes: videos with what only the network tells, the latents on the way between keyframes and the pace of frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.motion.pace import PROXY_SIDE, paced_times, proxy_times
from model.motion.walk import Walk
from model.spec import RenderSpec
from service.imaging.video_spec import VideoSpec

BATCH_PIXELS = 1 << 20
"""Pixels that are rendered together: a worker has images rendered in between."""


@dataclass(frozen=True)
class Scene:
    """A video, the latents of its cells over time, and the times of its frames."""

    video: VideoSpec
    walks: Sequence[Walk]
    times: NDArray[np.float64]

    def batches(self, group: int) -> Iterator[list[RenderSpec]]:
        """The cells of a group's frames, frame by frame, in batches that are rendered together."""
        video = self.video
        frames, step = video.frames_of(group), max(1, BATCH_PIXELS // video.frame_pixels)
        for start in range(frames.start, frames.stop, step):
            times = self.times[start : min(start + step, frames.stop)].tolist()
            yield [spec for time in times for spec in video.cell_specs(time, self.walks)]


def proxy_batches(video: VideoSpec, walks: Sequence[Walk]) -> Iterator[list[RenderSpec]]:
    """The small images from which :func:`perceived_times` finds the pace, in batches."""
    timeline, step = video.timeline, max(1, BATCH_PIXELS // (PROXY_SIDE**2 * video.cells))
    times = proxy_times(timeline.duration, timeline.frames).tolist()
    for start in range(0, len(times), step):
        yield [spec for time in times[start : start + step] for spec in video.proxy.cell_specs(time, walks)]


def perceived_times(video: VideoSpec, proxies: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """The times of frames between which equally much changes."""
    timeline, cells = video.timeline, video.cells
    moments = np.arange(timeline.frames) / max(1, timeline.frames if timeline.loop else timeline.frames - 1)
    images = (proxies[start : start + cells] for start in range(0, len(proxies), cells))
    return paced_times(timeline.duration, images, moments)
