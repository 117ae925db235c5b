"""Renders and encodes groups of a video's frames, a few frames at a time."""

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import IO, Any, Protocol, cast

import numpy as np
import obstore
from numpy.typing import NDArray

from model.latents.latent import Latent
from model.motion.walk import Walk
from model.spec import RenderSpec
from model.viewport import Viewport
from service.imaging.object_store import Store, exists, put_once
from service.imaging.scene import Scene, perceived_times, proxy_batches
from service.imaging.video import open_group, require_pyav, upload, write_frames
from service.imaging.video_spec import VideoSpec
from service.queue.messages import RenderFailed

KEPT_SCENES = 8
"""Videos whose walks through latents are kept."""

PACE = "tiles/pace"
"""The object with the times of a video's frames, float64, which the first worker finds for all."""

Outcomes = Sequence[NDArray[Any] | RenderFailed]


class RenderExecutorLike(Protocol):
    """What is needed of service.worker.render_executor.RenderExecutor."""

    async def render(
        self,
        specs: Sequence[RenderSpec],
        contexts: Sequence[Mapping[str, str]],
        wanted: Sequence[Callable[[], bool]],
    ) -> Outcomes:
        """The images of specs of one model."""

    async def styles(self, specs: Sequence[RenderSpec], contexts: Sequence[Mapping[str, str]]) -> Outcomes:
        """The styles of the latents of specs of one model."""


class UnwantedError(Exception):
    """The group is no longer wanted by this worker."""


class GroupRenderer:
    """Renders groups with an executor, whose device images share: between two batches of frames it is theirs."""

    def __init__(self, executor: RenderExecutorLike, store: Store, encoders: Executor) -> None:
        self._executor = executor
        self._store = store
        self._encoders = encoders
        self._scenes: OrderedDict[VideoSpec, Scene] = OrderedDict()

    async def render(
        self, video: VideoSpec, group: int, folder: str, wanted: Callable[[], bool], context: Mapping[str, str]
    ) -> None:
        """Store a group. Raises UnwantedError, RenderFailed, DeviceLostError, STORE_ERRORS, and InputError if PyAV is
        not installed."""
        require_pyav(video.kind)
        scene = await self._find_scene(video, folder, wanted, context)
        with tempfile.TemporaryFile() as temporary:
            file = cast(IO[bytes], temporary)
            await self._encode(scene, group, file, wanted, context)
            await self._in_thread(upload, self._store, f"{folder}/{video.tile_name(group)}", file)

    async def _encode(
        self,
        scene: Scene,
        group: int,
        file: IO[bytes],
        wanted: Callable[[], bool],
        context: Mapping[str, str],
    ) -> None:
        """Encodes frames while the next are rendered."""
        video = scene.video
        writer = await self._in_thread(open_group, video, file)
        encoding: asyncio.Future[Any] | None = None
        try:
            for specs in scene.batches(group):
                images = await self._images(specs, wanted, context)
                if encoding is not None:
                    await encoding
                encoding = self._in_thread(write_frames, video, writer, images)
        finally:
            if encoding is not None:
                await encoding
        await self._in_thread(writer.close)

    async def _images(
        self, specs: list[RenderSpec], wanted: Callable[[], bool], context: Mapping[str, str]
    ) -> list[NDArray[np.uint8]]:
        outcomes = await self._executor.render(specs, [context] * len(specs), [wanted] * len(specs))
        if not wanted():
            raise UnwantedError
        return _checked(outcomes)

    async def _find_scene(
        self, video: VideoSpec, folder: str, wanted: Callable[[], bool], context: Mapping[str, str]
    ) -> Scene:
        if video not in self._scenes:
            keyframes = video.timeline.keyframes
            latents = list(dict.fromkeys(latent for keyframe in keyframes for latent in keyframe.latents))
            viewport = Viewport.resolve(1, 1)
            specs = [RenderSpec(video.model, latent, viewport) for latent in latents]
            outcomes = await self._executor.styles(specs, [context] * len(specs))
            styles: dict[Latent, NDArray[np.float32]] = dict(zip(latents, _checked(outcomes), strict=True))
            walks, times = video.walks(styles.__getitem__), video.timeline.times
            if video.timeline.pace == "perceived":
                times = await self._find_pace(video, walks, f"{folder}/{PACE}", wanted, context)
            self._scenes[video] = Scene(video, walks, times)
        self._scenes.move_to_end(video)
        while len(self._scenes) > KEPT_SCENES:
            self._scenes.popitem(last=False)
        return self._scenes[video]

    async def _find_pace(
        self, video: VideoSpec, walks: list[Walk], path: str, wanted: Callable[[], bool], context: Mapping[str, str]
    ) -> NDArray[np.float64]:
        """The times of the frames, from the store if another worker has found them."""
        if not await exists(self._store, path):
            proxies: list[NDArray[np.uint8]] = []
            for specs in proxy_batches(video, walks):
                proxies += await self._images(specs, wanted, context)
            times = await self._in_thread(perceived_times, video, proxies)
            await put_once(self._store, path, times.tobytes())
        found = await obstore.get_async(self._store, path)
        return np.frombuffer(bytes(await found.bytes_async()))

    def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        return asyncio.get_running_loop().run_in_executor(self._encoders, work, *arguments)


def _checked(outcomes: Outcomes) -> list[NDArray[Any]]:
    """The outcomes, if all have succeeded. Raises RenderFailed."""
    for outcome in outcomes:
        if isinstance(outcome, RenderFailed):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, RenderFailed)]
