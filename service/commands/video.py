"""``creps video``: a video of walks between latents, zooms and turns, as StyleGAN's gen_video.py makes."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.geometry.transforms import Transform
from model.latents.latent import Latent, pack_floats
from model.motion.spline import Spline
from model.motion.timeline import Frame, Keyframe, Timeline
from model.spec import RenderSpec
from model.util.arguments import ArgumentParser
from model.util.files import new_file, terminate_as_interrupt
from model.viewport import Region, Viewport
from service.commands import options as types
from service.commands.bars import rendering_bar
from service.commands.batch import BATCH_PIXELS
from service.commands.options import (
    add_checkpoint,
    add_device,
    add_latent_options,
    add_size,
    attach_negative_values,
    check_output,
)
from service.imaging.video import VIDEO_SUFFIXES, VideoKind, VideoWriter, check_video
from service.models.catalog import open_checkpoint

if TYPE_CHECKING:
    from kernels.renderer import Renderer

STYLEGAN_OPTIONS = {"--network": "CHECKPOINT, the first argument"}
"""Options of StyleGAN's gen_video.py, and what this command has in their place."""

MAX_FRAME_PIXELS = 2**25
"""Largest frame: one is held in memory as pixels and as the encoder's copies."""

MAX_KEYFRAME_BYTES = 2**20

_OPTIONS = {"truncation_psi": "psi", "truncation_cutoff": "cutoff", "class_index": "class", "width": "size"}

_NAMES = {"time", "seed", "region", "rotate", "easing"}
"""Values of a keyframe in a file."""


@dataclass(frozen=True)
class Video:
    """A video to render.

    Attributes:
        timelines: one for each cell of the grid, row by row; all have equally many frames.
        size: width and height of a cell in pixels.
        columns: of the grid.
    """

    checkpoint: Checkpoint
    timelines: Sequence[Timeline]
    size: tuple[int, int]
    columns: int
    kind: VideoKind
    output: Path

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height of the whole frame."""
        return self.size[0] * self.columns, self.size[1] * (len(self.timelines) // self.columns)


def main(arguments: Sequence[str]) -> None:
    """Render a video. Raises InputError if an option is invalid, or OSError if the file cannot be written."""
    options = _parser().parse_args(attach_negative_values(arguments))
    try:
        video = _resolve(options)
    except InputError as error:
        raise InputError(_OPTIONS.get(error.field, error.field), error.message) from None

    from kernels.renderer import Renderer  # not at the top: --help and errors need no torch

    renderer = Renderer(video.checkpoint, options.device)
    with terminate_as_interrupt():
        _write(video, renderer)
    width, height = video.frame_size
    frames = video.timelines[0].frames
    print(f"{video.output}: {frames} frames of {width}×{height} pixels, {video.output.stat().st_size:,} bytes")


def _resolve(options: Namespace) -> Video:
    checkpoint = open_checkpoint(options.checkpoint)
    resolution = checkpoint.config.resolution
    size = options.size or (resolution, resolution)
    if (kind := VIDEO_SUFFIXES.get(options.output.suffix.lower())) is None:
        raise InputError("output", f"must end in one of {', '.join(VIDEO_SUFFIXES)}, not {options.output.name}")
    check_output("output", options.output)
    class_index = checkpoint.find_class(options.class_index)

    def latent(seed: int) -> Latent:
        found = Latent(seed, class_index=class_index, psi=options.psi, cutoff=options.cutoff)
        found.check(checkpoint.config)
        return found

    region = Viewport.resolve(*size).region
    if options.keyframes is not None:
        columns, rows = 1, 1
        timelines = [_read_keyframes(options, latent, size)]
    else:
        columns, rows = options.grid or (1, 1)
        timelines = _walks([latent(seed) for seed in options.seeds], columns * rows, options, region)
    video = Video(checkpoint, timelines, size, columns, kind, options.output)
    width, height = video.frame_size
    check_video(kind, width, height)
    if width * height > MAX_FRAME_PIXELS:
        raise InputError("size", f"of a frame must be at most {MAX_FRAME_PIXELS} pixels in all")
    for index in range(timelines[0].frames if options.keyframes else 1):
        _viewport(timelines[0].frame(index), size)  # checks it
    return video


def _walks(latents: Sequence[Latent], cells: int, options: Namespace, region: Region) -> list[Timeline]:
    """A closed walk through some of the latents for each cell."""
    if len(latents) % cells:
        raise InputError("seeds", f"must be a multiple of the grid's {cells} cells, not {len(latents)}")
    count = len(latents) // cells
    if not 1 <= options.w_frames <= 10_000:
        raise InputError("w-frames", f"must be from 1 to 10000, not {options.w_frames}")
    timelines = []
    for cell in range(cells):
        own = latents[cell * count : (cell + 1) * count]
        step = options.w_frames / options.fps
        keyframes = [Keyframe(k * step, each, region) for k, each in enumerate([*own, own[0]])]
        timelines.append(Timeline(keyframes, options.fps, loop=True))
    return timelines


def _read_keyframes(options: Namespace, latent: Callable[[int], Latent], size: tuple[int, int]) -> Timeline:
    """The timeline of a file: ``{"loop": false, "keyframes": [{"time": 0, "seed": 1, …}, …]}``."""
    path: Path = options.keyframes
    region = Viewport.resolve(*size).region
    if path.stat().st_size > MAX_KEYFRAME_BYTES:
        raise InputError("keyframes", f"must be a file of at most {MAX_KEYFRAME_BYTES} bytes")
    try:
        values = json.loads(path.read_text())
        unknown = {name for each in values["keyframes"] for name in each} - _NAMES | set(values) - {"loop", "keyframes"}
        if unknown:
            raise InputError("keyframes", f"do not have {', '.join(sorted(unknown))}; they have {', '.join(_NAMES)}")
        keyframes = [
            Keyframe(
                float(each["time"]),
                latent(int(each["seed"])),
                Viewport.resolve(*size, tuple(map(float, each.get("region", region)))).region,  # type: ignore[arg-type]
                float(each.get("rotate", 0)),
                each.get("easing", "ease-in-out"),
            )
            for each in values["keyframes"]
        ]
        return Timeline(keyframes, options.fps, loop=bool(values.get("loop", False)))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("keyframes", f"{path} is no file of keyframes: {type(error).__name__}: {error}") from None


def _write(video: Video, renderer: "Renderer") -> None:
    curves = [_styles(timeline, renderer) for timeline in video.timelines]
    frames = video.timelines[0].frames
    width, height = video.frame_size
    with new_file(video.output) as file:
        path = Path(file.name)
        with (
            rendering_bar("rendering", frames) as bar,
            VideoWriter(path, video.kind, video.timelines[0].fps, width, height) as writer,
        ):
            for images in _render(video, curves, renderer):
                rows = [images[start : start + video.columns] for start in range(0, len(images), video.columns)]
                writer.write(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
                bar.update()


def _styles(timeline: Timeline, renderer: "Renderer") -> Spline:
    """The curve of w+ [num_ws · w_dim] through the keyframes' latents."""
    from model.latents.styles import layer_styles

    generator = renderer.checkpoint.load()
    styles = [
        layer_styles(generator.config, generator.mapping, keyframe.latent).flatten().double().numpy()
        for keyframe in timeline.keyframes
    ]
    times = np.array([keyframe.time for keyframe in timeline.keyframes])
    return Spline(times, np.stack(styles), periodic=timeline.loop)


def _render(video: Video, curves: Sequence[Spline], renderer: "Renderer") -> Iterator[list[NDArray[np.uint8]]]:
    """The cells of every frame, several frames at a time."""
    cells = len(video.timelines)
    step = max(1, BATCH_PIXELS // (video.size[0] * video.size[1] * cells))
    for start in range(0, video.timelines[0].frames, step):
        specs = [
            _spec(video, timeline.frame(index), curve)
            for index in range(start, min(start + step, video.timelines[0].frames))
            for timeline, curve in zip(video.timelines, curves, strict=True)
        ]
        images = renderer.render_batch(specs)
        for first in range(0, len(images), cells):
            yield images[first : first + cells]


def _spec(video: Video, frame: Frame, curve: Spline) -> RenderSpec:
    latent = Latent(w=pack_floats(curve(frame.time)))
    return RenderSpec(video.checkpoint.digest, latent, _viewport(frame, video.size))


def _viewport(frame: Frame, size: tuple[int, int]) -> Viewport:
    return Viewport.resolve(*size, frame.region, transform=[Transform("rotate", (frame.rotate,))])


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="creps video",
        description="Renders a video: a closed walk through the latents of seeds, or between keyframes of a file.",
        renamed=STYLEGAN_OPTIONS,
    )
    add_checkpoint(parser)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", type=types.seeds, metavar="0-7", help="walk through these seeds and back to the first")
    what.add_argument("--keyframes", type=Path, metavar="FILE.json", help="keyframes, see docs/video.md")
    add("--w-frames", type=types.integer, default=120, metavar="N", help="frames from one seed to the next (120)")
    add("--grid", type=types.grid, metavar="COLSxROWS", help="several walks, the seeds divided among them")
    add("--fps", type=types.number, default=30.0, help="frames per second (default: 30)")
    add_latent_options(parser)
    add("--trunc", dest="psi", type=types.number, metavar="PSI", help="the same as --psi, as StyleGAN's tools name it")
    add_size(parser)
    add_device(parser)
    add("--output", type=Path, required=True, metavar="FILE", help=f"ends in {', '.join(VIDEO_SUFFIXES)}")
    return parser
