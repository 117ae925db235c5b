"""Video files from 8-bit frames, by PyAV. Equal frames give equal bytes: no date, and a fixed number of threads."""

from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

if TYPE_CHECKING:
    pass

VideoKind = Literal["mp4", "webm", "apng", "webp", "ffv1"]
VIDEO_KINDS: tuple[VideoKind, ...] = get_args(VideoKind)

THREADS = 4
"""x264 gives equal bytes for equal numbers of threads only."""

MAX_SIDE = 8192
"""Longest side that common decoders take (H.264 level 6.2)."""


@dataclass(frozen=True)
class _Codec:
    """A kind of file as FFmpeg names it."""

    container: str
    suffix: str
    codec: str
    pixels: str
    options: dict[str, str] = field(default_factory=dict)
    file_options: dict[str, str] = field(default_factory=dict)

    @property
    def halves_chroma(self) -> bool:
        return self.pixels == "yuv420p"


_CODECS: dict[VideoKind, _Codec] = {
    # crf 17 is visually lossless; the index at the front lets a page play the file while it loads.
    "mp4": _Codec("mp4", ".mp4", "libx264", "yuv420p", {"crf": "17"}, {"movflags": "+faststart"}),
    "webm": _Codec("webm", ".webm", "libvpx-vp9", "yuv420p", {"crf": "20", "b": "0", "row-mt": "1"}),
    "apng": _Codec("apng", ".apng", "apng", "rgb24", {}, {"plays": "0"}),
    "webp": _Codec("webp", ".webp", "libwebp_anim", "yuv420p", {"quality": "90"}, {"loop": "0"}),
    "ffv1": _Codec("matroska", ".mkv", "ffv1", "bgr0", {"level": "3", "slices": "4"}),  # lossless
}

VIDEO_SUFFIXES: dict[str, VideoKind] = {codec.suffix: kind for kind, codec in _CODECS.items()}


def check_video(kind: VideoKind, width: int, height: int) -> None:
    """Raise InputError if a video cannot have frames of this size, or PyAV is not installed."""
    if find_spec("av") is None:
        raise InputError("output", "needs PyAV: pip install 'creps-serve[video]'")
    for name, side in (("width", width), ("height", height)):
        if side > MAX_SIDE:
            raise InputError(name, f"of a video must be at most {MAX_SIDE} pixels, not {side}")
        if side % 2 and _CODECS[kind].halves_chroma:
            raise InputError(name, f"of {kind} must be even, not {side}")


class VideoWriter:
    """Writes frames [H, W, 3] to a file, one at a time, as a context manager.

    Raises InputError as :func:`check_video`.
    """

    def __init__(self, path: Path, kind: VideoKind, fps: float, width: int, height: int) -> None:
        check_video(kind, width, height)
        import av

        codec = self._codec = _CODECS[kind]
        options = codec.file_options | {"fflags": "+bitexact"}
        self._container: av.container.OutputContainer = av.open(path, "w", format=codec.container, options=options)
        rate = Fraction(fps).limit_denominator(1001)
        stream = self._container.add_stream(codec.codec, rate, codec.options)
        self._stream: av.video.stream.VideoStream = cast("av.video.stream.VideoStream", stream)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, codec.pixels
        context = self._stream.codec_context
        context.thread_count = THREADS
        context.flags |= av.codec.context.Flags.bitexact
        if codec.halves_chroma:  # ITU-R BT.709, narrow range, as players assume for video
            context.color_primaries = context.color_trc = context.colorspace = 1
            context.color_range = 1

    def __enter__(self) -> Self:
        return self

    def write(self, image: NDArray[np.uint8]) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if self._codec.halves_chroma:
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
        self._container.mux(self._stream.encode(frame))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
