"""From the request of a video to a resolved VideoSpec, within the service's limits."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.geometry.wrap import Wrap
from model.latents.latent import MAX_SEED, Latent
from model.motion.timeline import Keyframe, Timeline
from model.viewport import Viewport
from service.gateway.errors import TooLargeError
from service.gateway.job_schemas import JobRequest, KeyframeRequest
from service.gateway.latents import resolve_latent
from service.gateway.resolve import find_model, named_as_given
from service.gateway.state import AppState
from service.imaging.video_spec import NEED_PYAV, VIDEO_KINDS, VideoSpec, is_video

NOT_OF_VIDEOS = ("tile", "crop", "format", "quality")

_OF_LATENTS = ("styles", "edits", "truncation_psi", "truncation_cutoff", "class_index")
"""Fields of a keyframe that replace those of the job."""


async def resolve_video(body: JobRequest, app_state: AppState) -> tuple[VideoSpec, Checkpoint, int]:
    """The video of a request, its checkpoint, and the pixels that the network renders for it.

    Raises InputError, which names the field as the client did, and its limit, and UnavailableError.
    """
    with named_as_given(body):
        if body.keyframes is None:
            raise InputError("keyframes", f"are needed for the output {body.output}")
        if given := body.first_changed(NOT_OF_VIDEOS):
            raise InputError(given, "is for images, not for videos")
        checkpoint = await find_model(body.model, app_state.models)
        video = await _resolve(body, body.keyframes, checkpoint, app_state)
        await _require_encoder(video, app_state)
        config = checkpoint.config
        # In a thread: transforms of many frames take a while.
        pixels = await asyncio.to_thread(video.rendered_pixels, config.resolution, config.max_scale)
        if (limit := app_state.settings.max_job_pixels) < max(pixels, video.pixels):
            frames, (width, height) = video.timeline.frames, video.size
            rendered = f"{frames} frames of {width}×{height} pixels take {max(pixels, video.pixels)} pixels"
            raise TooLargeError("keyframes", f"are too long: {rendered}, above the limit of {limit} for one job")
    return video, checkpoint, pixels


async def _resolve(
    body: JobRequest, keyframes: list[KeyframeRequest], checkpoint: Checkpoint, app_state: AppState
) -> VideoSpec:
    kind = body.output
    if not is_video(kind):
        raise InputError("output", f"of keyframes must be one of {', '.join(VIDEO_KINDS)}")
    columns, rows = (1, 1) if body.cells is None else map(int, body.cells.split("x"))
    width = body.width or body.height or checkpoint.config.resolution
    height = body.height or width
    if body.seed is None and body.latent is None:
        body = body.model_copy(update={"seed": secrets.randbelow(MAX_SEED + 1)})  # one for all keyframes
    resolved = []
    for index, keyframe in enumerate(keyframes):
        with _within(f"keyframes[{index}]", keyframe):
            latents = await _latents(body, keyframe, columns * rows, checkpoint, app_state)
            region = Viewport.resolve(width, height, keyframe.region or body.region, None, body.grid).region
        transform = body.transform if keyframe.transform is None else keyframe.transform
        resolved.append(Keyframe(keyframe.time, latents, region, transform, keyframe.easing, keyframe.zoom))
    wrap = None if body.wrap is None else Wrap(body.wrap, body.wrap_mode, body.wrap_blend)
    timeline = Timeline(resolved, body.fps, body.loop, body.walk, body.pace)
    z_dim, shown = checkpoint.config.z_dim, (body.grid, body.outside, wrap)
    return VideoSpec(checkpoint.digest, z_dim, kind, timeline, width, height, columns, *shown)


async def _latents(
    body: JobRequest, keyframe: KeyframeRequest, cells: int, checkpoint: Checkpoint, app_state: AppState
) -> tuple[Latent, ...]:
    """The latents of a keyframe, one for each cell."""
    given = [name for name in ("seed", "latent", "latents") if getattr(keyframe, name) is not None]
    if len(given) > 1:
        raise InputError(given[1], f"cannot be combined with {given[0]}")
    changed: dict[str, Any] = {name: value for name in _OF_LATENTS if (value := getattr(keyframe, name)) is not None}
    if keyframe.seed is not None or keyframe.latent is not None:
        changed |= {"seed": keyframe.seed, "latent": keyframe.latent}
    requests = [body.model_copy(update=changed)]
    if keyframe.latents is not None:
        requests = [body.model_copy(update=changed | {"seed": None, "latent": each}) for each in keyframe.latents]
    if len(requests) != cells:
        raise InputError("latents", f"must be {cells}, one for each cell, not {len(requests)}")
    return tuple(
        [await resolve_latent(request, checkpoint, app_state.latents, app_state.directions) for request in requests]
    )


@contextmanager
def _within(place: str, keyframe: KeyframeRequest) -> Iterator[None]:
    """Names fields in errors with their keyframe."""
    try:
        with named_as_given(keyframe):
            yield
    except InputError as error:
        raise type(error)(f"{place}.{error.field}", error.message) from None


async def _require_encoder(video: VideoSpec, app_state: AppState) -> None:
    """Raise InputError if no live worker can encode the video. Without workers, it waits for one."""
    workers = await app_state.workers.recent()
    if video.kind in NEED_PYAV and workers and not any(worker.video for worker in workers):
        raise InputError("output", f"{video.kind} needs a worker with PyAV (pip install 'creps-serve[video]')")
