"""Videos by FFmpeg (PyAV): groups of frames are encoded on their own, and joined without being encoded again.

Equal frames give equal bytes: no date, a fixed number of threads, and nothing that reads memory before it is written.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from typing import IO, TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

Encoded = Literal["mp4", "webm", "ffv1"]

THREADS = 4
"""x264 gives equal bytes for equal numbers of threads only."""

_INDEX_BYTES = 4096, 64
"""Reserved for the index at the front of an MP4: in all, and for each frame, whose entries take at most 36."""

_GROUP = "nut"
"""Container of a group: it takes every codec and exact times."""

_BT709, _NARROW = 1, 1


@dataclass(frozen=True)
class _Codec:
    """A codec and its container as FFmpeg names them. ``delay`` is the number of frames that it may reorder."""

    container: str
    name: str
    pixels: str
    options: dict[str, str] = field(default_factory=dict)
    delay: int = 0


_CODECS: dict[Encoded, _Codec] = {
    # Above 45 dB of luma. With AVX-512 x264's macroblock tree reads uninitialised memory, at many widths.
    "mp4": _Codec("mp4", "libx264", "yuv420p", {"crf": "13", "mbtree": "0"}, delay=2),
    "webm": _Codec("webm", "libvpx-vp9", "yuv420p", {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4"}),
    "ffv1": _Codec("matroska", "ffv1", "bgr0", {"level": "3", "slices": "4"}),  # lossless
}


class GroupWriter:
    """Encodes the frames [H, W, 3] of a group, one at a time, into a file."""

    def __init__(self, kind: Encoded, file: IO[bytes], fps: float, width: int, height: int) -> None:
        import av

        self._codec = codec = _CODECS[kind]
        options = {"fflags": "+bitexact"}
        self._container: av.container.OutputContainer = av.open(file, "w", format=_GROUP, options=options)
        stream = self._container.add_stream(codec.name, frame_rate(fps), codec.options)
        self._stream = cast("av.video.stream.VideoStream", stream)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, codec.pixels
        context = self._stream.codec_context
        context.thread_count = THREADS
        context.flags |= av.codec.context.Flags.bitexact
        if codec.pixels == "yuv420p":
            _tag_colours(self._stream)

    def write(self, image: NDArray[np.uint8]) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        if self._codec.pixels == "yuv420p":
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file, which stays open."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


def join(kind: Encoded, groups: Iterable[bytes], file: IO[bytes], fps: float, frames: int) -> None:
    """Write the groups of a video with so many frames as one file. Only one group is held at a time."""
    import av

    codec, rate = _CODECS[kind], frame_rate(fps)
    options = {"fflags": "+bitexact"}
    if kind == "mp4":  # the index at the front lets a page play the file while it loads
        fixed, each = _INDEX_BYTES
        options["moov_size"] = str(fixed + each * frames)
    stream: av.video.stream.VideoStream | None = None
    first = 0
    with av.open(file, "w", format=codec.container, options=options) as output:
        for group in groups:
            with av.open(BytesIO(group), "r", format=_GROUP) as source:
                template = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(template)
                    stream.time_base = 1 / rate
                    if codec.pixels == "yuv420p":
                        _tag_colours(stream)
                count = 0
                for packet in source.demux(template):
                    if packet.pts is None:  # the end
                        continue
                    packet.pts = first + round(packet.pts * packet.time_base * rate)
                    packet.dts = first + count - codec.delay
                    packet.duration, packet.time_base, packet.stream = 1, 1 / rate, stream
                    output.mux(packet)
                    count += 1
                first += count


def frame_rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def _tag_colours(stream: "av.video.stream.VideoStream") -> None:
    """ITU-R BT.709, narrow range, as players assume for video."""
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _NARROW
