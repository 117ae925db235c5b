"""Videos rendered in this process, without a queue."""

import io
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from model.latents.latent import Latent
from model.spec import RenderSpec
from model.util.files import new_file
from service.imaging.atomic_move import folder_beside, move_file
from service.imaging.object_store import Store, open_store
from service.imaging.scene import Scene, perceived_times, proxy_batches
from service.imaging.video import join, join_groups, open_encoder, open_group, upload, write_frames
from service.imaging.video_spec import GROUP_FRAMES, VideoKind, VideoSpec

_UNFINISHED = "video"
"""Subfolder of the temporary folder for the groups."""


class Renderer(Protocol):
    """The methods of kernels.renderer.Renderer that are used here."""

    def render_batch(self, specs: Sequence[RenderSpec]) -> list[NDArray[np.uint8]]:
        """The images [h, w, 3] of the specs."""

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        """The styles w+ [num_ws, w_dim] of a latent."""


def write_video(video: VideoSpec, renderer: Renderer, output: Path, progress: Callable[[int], object]) -> None:
    """Write the file that a job writes. ``progress`` is called with the number of frames that were rendered since.

    Raises STORE_ERRORS, and InputError if a latent does not fit the network. Then ``output`` stays as it was.
    """
    with folder_beside(output) as folder:
        store, scene = open_store(folder.absolute().as_uri()), make_scene(video, renderer)
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as encoder:
            for group in range(video.tiles):
                _write_group(scene, group, renderer, store, encoder, progress)
        join_groups(video, store, _UNFINISHED, lambda groups: None)
        move_file(folder / _UNFINISHED / video.name, output)


def write_images(kind: VideoKind, images: Iterable[NDArray[np.uint8]], count: int, fps: float, output: Path) -> None:
    """Write so many images [H, W, 3], all of a size, as the frames of a video. Raises OSError."""

    def groups() -> Iterator[bytes]:
        rest = iter(images)
        while group := list(itertools.islice(rest, GROUP_FRAMES[1])):
            file = io.BytesIO()
            height, width, _ = group[0].shape
            writer = open_encoder(kind, file, fps, width, height)
            for image in group:
                writer.write(image)
            writer.close()
            yield file.getvalue()

    with new_file(output) as file:
        join(kind, groups(), file, fps, count)


def make_scene(video: VideoSpec, renderer: Renderer) -> Scene:
    """What the network tells of a video."""
    walks, times = video.walks(renderer.styles), video.timeline.times
    if video.timeline.pace == "perceived":
        proxies = [image for specs in proxy_batches(video, walks) for image in renderer.render_batch(specs)]
        times = perceived_times(video, proxies)
    return Scene(video, walks, times)


def _write_group(
    scene: Scene,
    group: int,
    renderer: Renderer,
    store: Store,
    encoder: ThreadPoolExecutor,
    progress: Callable[[int], object],
) -> None:
    """Encodes frames while the next are rendered."""
    video = scene.video
    encoding: Future[None] | None = None
    with tempfile.TemporaryFile() as temporary:
        file = cast(IO[bytes], temporary)
        writer = open_group(video, file)
        try:
            for specs in scene.batches(group):
                images = renderer.render_batch(specs)
                if encoding is not None:
                    encoding.result()
                encoding = encoder.submit(write_frames, video, writer, images)
                progress(len(specs) // video.cells)
        finally:
            if encoding is not None:
                encoding.result()
        writer.close()
        upload(store, f"{_UNFINISHED}/{video.tile_name(group)}", file)
