"""``creps video``: a video of walks between latents, zooms and turns, as StyleGAN's gen_video.py makes."""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.geometry.transforms import Transform, parse_transforms
from model.latents.latent import Edit, Latent
from model.motion.pace import Pace
from model.motion.timeline import DEFAULT_EASING, DEFAULT_FRAME_RATE, Keyframe, Timeline, check_frame_rate
from model.motion.walk import WalkKind
from model.util.arguments import ArgumentParser
from model.util.files import terminate_as_interrupt
from model.viewport import Region, Viewport
from service.commands import options as types
from service.commands.bars import rendering_bar
from service.commands.options import (
    add_checkpoint,
    add_device,
    add_latent_options,
    add_size,
    attach_negative_values,
    check_output,
)
from service.imaging.local_video import write_video
from service.imaging.object_store import STORE_ERRORS, reason
from service.imaging.video import find_kind
from service.imaging.video_spec import KINDS_BY_SUFFIX, VideoSpec
from service.models.catalog import open_checkpoint

STYLEGAN_OPTIONS = {"--network": "CHECKPOINT, the first argument"}
"""Options of StyleGAN's gen_video.py, and what this command has in their place."""

MAX_KEYFRAME_BYTES = 2**20

_OPTIONS = {
    "truncation_psi": "psi",
    "truncation_cutoff": "cutoff",
    "class_index": "class",
    "width": "size",
    "height": "size",
    "cells": "grid",
}

_NAMES = {"time", "seed", "psi", "edits", "region", "rotate", "transform", "easing", "zoom"}
"""Values of a keyframe in a file."""


def main(arguments: Sequence[str]) -> None:
    """Render a video. Raises InputError if an option is invalid, or the file cannot be written."""
    options = _parser().parse_args(attach_negative_values(arguments))
    try:
        checkpoint, video = _resolve(options)
    except InputError as error:
        raise InputError(_OPTIONS.get(error.field, error.field), error.message) from None

    from kernels.renderer import Renderer  # not at the top: --help and errors need no torch

    renderer, frames = Renderer(checkpoint, options.device), video.timeline.frames
    try:
        with terminate_as_interrupt(), rendering_bar("rendering", frames) as bar:
            write_video(video, renderer, options.output, bar.update)
    except STORE_ERRORS as error:
        raise InputError("output", f"{options.output} cannot be written: {reason(error)}") from None
    width, height = video.size
    print(f"{options.output}: {frames} frames of {width}×{height} pixels, {options.output.stat().st_size:,} bytes")


def _resolve(options: Namespace) -> tuple[Checkpoint, VideoSpec]:
    checkpoint = open_checkpoint(options.checkpoint)
    kind = find_kind("output", options.output)
    check_output("output", options.output)
    resolution = checkpoint.config.resolution
    width, height = options.size or (resolution, resolution)
    columns, rows = (1, 1) if options.keyframes else options.grid or (1, 1)
    region = Viewport.resolve(width, height).region
    source = Latent(0, class_index=checkpoint.find_class(options.class_index), psi=options.psi, cutoff=options.cutoff)
    if options.keyframes is not None:
        timeline = _read_keyframes(options, source, region)
    else:
        timeline = _walk([replace(source, seed=seed) for seed in options.seeds], columns * rows, options, region)
    for keyframe in timeline.keyframes:
        for latent in keyframe.latents:
            latent.check(checkpoint.config)
    video = VideoSpec(checkpoint.digest, checkpoint.config.z_dim, kind, timeline, width, height, columns)
    video.rendered_pixels(resolution)  # checks frames
    return checkpoint, video


def _walk(latents: Sequence[Latent], cells: int, options: Namespace, region: Region) -> Timeline:
    """A closed walk through the latents, of which each cell has some."""
    if len(latents) % cells:
        raise InputError("seeds", f"must be a multiple of the grid's {cells} cells, not {len(latents)}")
    count = len(latents) // cells
    if not 1 <= options.w_frames <= 10_000:
        raise InputError("w-frames", f"must be from 1 to 10000, not {options.w_frames}")
    check_frame_rate(options.fps)
    keyframes = [
        Keyframe(
            k * options.w_frames / options.fps,
            tuple(latents[cell * count + k % count] for cell in range(cells)),
            region,
            easing="linear",
        )
        for k in range(count + 1)
    ]
    return Timeline(keyframes, options.fps, loop=True, walk=options.walk, pace=options.pace)


def _read_keyframes(options: Namespace, source: Latent, region: Region) -> Timeline:
    """The timeline of a file: ``{"loop": false, "keyframes": [{"time": 0, "seed": 1, …}, …]}``."""
    path: Path = options.keyframes
    if path.stat().st_size > MAX_KEYFRAME_BYTES:
        raise InputError("keyframes", f"must be a file of at most {MAX_KEYFRAME_BYTES} bytes")
    try:
        values = json.loads(path.read_text())
        unknown = {name for each in values["keyframes"] for name in each} - _NAMES | set(values) - {"loop", "keyframes"}
        if unknown:
            raise InputError("keyframes", f"do not have {', '.join(sorted(unknown))}; they have {', '.join(_NAMES)}")
        keyframes = [_keyframe(each, source, region) for each in values["keyframes"]]
        loop = bool(values.get("loop", False))
        return Timeline(keyframes, options.fps, loop=loop, walk=options.walk, pace=options.pace)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("keyframes", f"{path} is no file of keyframes: {type(error).__name__}: {error}") from None


def _keyframe(values: dict[str, Any], source: Latent, region: Region) -> Keyframe:
    edits = tuple(Edit(str(each["direction"]), float(each["amount"])) for each in values.get("edits", ()))
    latent = replace(source, seed=int(values["seed"]), psi=float(values.get("psi", source.psi)), edits=edits)
    shown = Viewport.resolve(1, 1, tuple(map(float, values.get("region", region)))).region  # type: ignore[arg-type]
    turned = [Transform("rotate", (float(values["rotate"]),))] if "rotate" in values else []
    transform = (*parse_transforms(values.get("transform", [])), *turned)
    easing, way = values.get("easing", DEFAULT_EASING), values.get("zoom", "direct")
    return Keyframe(float(values["time"]), (latent,), shown, transform, easing, way)


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
    add(
        "--walk", default="w", choices=get_args(WalkKind), help="between latents: a spline in w (default), circles in z"
    )
    add("--pace", default="time", choices=get_args(Pace), help="perceived: equally much changes from frame to frame")
    add("--fps", type=types.number, default=DEFAULT_FRAME_RATE, help="frames per second (default: 30)")
    add_latent_options(parser)
    add("--trunc", dest="psi", type=types.number, metavar="PSI", help="the same as --psi, as StyleGAN's tools name it")
    add_size(parser)
    add_device(parser)
    add("--output", type=Path, required=True, metavar="FILE", help=f"ends in .{', .'.join(KINDS_BY_SUFFIX)}")
    return parser
