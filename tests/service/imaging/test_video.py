"""Video files from groups of frames: the same bytes whatever happens on the way, and frames as they were rendered."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.errors import InputError
from model.geometry.transforms import parse_transforms
from model.geometry.wrap import Wrap
from model.latents.latent import Latent
from model.motion.timeline import Keyframe, Timeline
from service.imaging import video as videos
from service.imaging.ffmpeg import Encoded, GroupWriter
from service.imaging.local_video import make_scene, write_video
from service.imaging.object_store import open_store
from service.imaging.order import read_order
from service.imaging.video import join_groups, open_group, upload, write_frames
from service.imaging.video_spec import GROUP_FRAMES, VIDEO_KINDS, VideoKind, VideoSpec

av = pytest.importorskip("av")

FULL = (0.0, 0.0, 1.0, 1.0)


def make_video(kind: VideoKind, seconds: float = 3.0, fps: float = 10.0, cells: int = 1, **values: Any) -> VideoSpec:
    latents = tuple(Latent(seed=seed) for seed in range(cells))
    keyframes = [Keyframe(0.0, latents, FULL), Keyframe(seconds, latents, (0.2, 0.2, 0.4, 0.4))]
    return VideoSpec(
        "model", 4, kind, Timeline(keyframes, fps), **{"width": 64, "height": 48, "columns": cells} | values
    )


class Waves:
    """Draws waves that move as the region does."""

    def styles(self, latent: Latent) -> NDArray[np.float32]:
        return np.full((3, 2), latent.seed, np.float32)

    def render_batch(self, specs: Sequence[Any]) -> list[NDArray[np.uint8]]:
        return [self._draw(spec) for spec in specs]

    def _draw(self, spec: Any) -> NDArray[np.uint8]:
        x = spec.viewport.columns(0, spec.viewport.width, 32)[None, :, None]
        y = spec.viewport.rows(0, spec.viewport.height, 32)[:, None, None]
        waves = 127 + 100 * np.sin(9 * x + (spec.latent.seed or 0)) * np.cos(7 * y) + np.zeros(3)
        return np.asarray(waves, np.uint8)


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def expected(video: VideoSpec) -> list[NDArray[np.uint8]]:
    scene = make_scene(video, Waves())
    return [video.compose(Waves().render_batch(video.cell_specs(time, scene.walks))) for time in scene.times]


@pytest.mark.parametrize("kind", ["ffv1", "apng"])
def test_lossless_frames_are_the_images(kind: VideoKind, tmp_path: Path) -> None:
    """Across the borders of groups."""
    video, path = make_video(kind, cells=2), tmp_path / "a"
    told: list[int] = []
    write_video(video, Waves(), path, told.append)
    assert (sum(told), video.tiles) == (31, 2)
    found = frames_of(path)
    assert len(found) == 31
    for frame, image in zip(found, expected(video), strict=True):
        assert np.array_equal(frame, image)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_what_players_are_told(kind: VideoKind, tmp_path: Path) -> None:
    video, path = make_video(kind, fps=29.97, seconds=1.5), tmp_path / "a"
    write_video(video, Waves(), path, lambda frames: None)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert container.duration / av.time_base == pytest.approx(46 / 29.97, abs=0.04)
        times = [float(frame.time) for frame in container.decode(stream)]
    assert np.diff(times) == pytest.approx(1 / 29.97, abs=1.1e-3)  # WebM counts milliseconds
    assert len(times) == 46
    images = expected(video)
    for frame, image in zip(frames_of(path), images, strict=True):
        assert 10 * np.log10(255**2 / np.square(frame.astype(float) - image).mean()) > 38
    if kind == "mp4":  # a page plays it while it loads
        content = path.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")


def test_an_animated_webp(tmp_path: Path) -> None:
    video, path = make_video("webp", fps=30.0, seconds=1.0), tmp_path / "a.webp"
    write_video(video, Waves(), path, lambda frames: None)
    with Image.open(path) as image:
        assert (image.n_frames, image.size, image.info["loop"]) == (31, (64, 48), 0)  # type: ignore[attr-defined]
        durations = []
        for index, expect in enumerate(expected(video)):
            image.seek(index)
            image.load()
            durations.append(image.info["duration"])
            error = np.square(np.asarray(image.convert("RGB")).astype(float) - expect).mean()
            assert 10 * np.log10(255**2 / error) > 35
    assert sum(durations) == round(1000 * 31 / 30)


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_groups_in_any_order_by_any_worker_make_the_same_file(kind: VideoKind, tmp_path: Path) -> None:
    video, renderer = make_video(kind), Waves()
    write_video(video, renderer, tmp_path / "whole", lambda frames: None)
    store = open_store((tmp_path / "store").as_uri())
    for group in (1, 0, 1):
        with tempfile.TemporaryFile() as temporary:
            file = cast(IO[bytes], temporary)
            writer = open_group(video, file)
            for specs in make_scene(video, renderer).batches(group):
                write_frames(video, writer, renderer.render_batch(specs))
            writer.close()
            upload(store, f"jobs/a/{video.tile_name(group)}", file)
    told: list[int] = []
    join_groups(video, store, "jobs/a", told.append)
    assert told == [1, 1]
    assert (tmp_path / "store/jobs/a" / video.name).read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("kind", ["mp4", "webm", "ffv1"])
def test_equal_frames_are_equal_bytes_whatever_memory_held_before(kind: Encoded) -> None:
    video = make_video(kind, seconds=1.0, height=64)  # a size at which x264's macroblock tree showed it
    images, random, files = expected(video), np.random.default_rng(0), set()
    for _ in range(16):
        for size in random.integers(1 << 10, 1 << 18, 8):
            random.bytes(size)  # freed at once
        file = BytesIO()
        writer = GroupWriter(kind, file, 10, 64, 64)
        for image in images:
            writer.write(image)
        writer.close()
        files.add(file.getvalue())
    assert len(files) == 1


def test_a_file_that_cannot_be_joined_does_not_appear(tmp_path: Path) -> None:
    video = make_video("mp4")
    store = open_store(tmp_path.as_uri())
    with pytest.raises(FileNotFoundError):
        join_groups(video, store, "jobs/a", lambda groups: None)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_long_video_has_an_index_that_fits(tmp_path: Path) -> None:
    """The space for it is reserved before the frames."""
    video, path = make_video("mp4", seconds=30, fps=60.0, width=16, height=16), tmp_path / "a.mp4"
    write_video(video, Waves(), path, lambda frames: None)
    assert len(frames_of(path)) == 1801


def test_groups_hold_a_bounded_number_of_pixels() -> None:
    small, large = make_video("mp4"), make_video("mp4", width=3840, height=2160)
    assert (len(small.frames_of(0)), len(large.frames_of(0))) == (GROUP_FRAMES[1], GROUP_FRAMES[0])
    assert [frame for group in range(large.tiles) for frame in large.frames_of(group)] == list(range(31))
    # One 4K frame is rendered at a time.
    assert [len(specs) for specs in make_scene(large, Waves()).batches(0)] == [1] * GROUP_FRAMES[0]


def test_frames_change_equally_much(tmp_path: Path) -> None:
    """The pace by perceived change has less than half the variation of that by time (geometry)."""
    variations = []
    for pace in ("time", "perceived"):
        plain = make_video("apng", seconds=4.0)
        keyframes = [*plain.timeline.keyframes, replace(plain.timeline.keyframes[0], time=5.0)]
        video = replace(plain, timeline=Timeline(keyframes, 10.0, pace=pace))
        images = np.stack(expected(video)).astype(float)
        changes = np.sqrt(np.square(np.diff(images, axis=0)).mean(axis=(1, 2, 3)))
        variations.append(changes.std() / changes.mean())
    assert variations[1] < variations[0] / 2


@pytest.mark.parametrize("kind", VIDEO_KINDS)
def test_a_video_survives_its_text(kind: VideoKind) -> None:
    keyframes = [
        Keyframe(0.0, (Latent(seed=3, psi=0.5),), FULL, tuple(parse_transforms([{"rotate": 0}])), "linear"),
        Keyframe(1.5, (Latent(z=b"\0\0\x80?"),), (0.0, 0.0, 0.5, 0.5), tuple(parse_transforms([{"rotate": 90}]))),
    ]
    video = VideoSpec("abc", 4, kind, Timeline(keyframes, 24), 64, 64, 1, "corners", "mirror", Wrap("x"))
    again = read_order(video.to_json())
    assert again == video
    assert hash(again) == hash(video)
    assert again.to_json() == video.to_json()


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        ("mp4", {"width": 31}, "width"),
        ("webm", {"height": 31}, "height"),
        ("mp4", {"width": 8194}, "width"),
        ("ffv1", {"width": 8192, "height": 8192}, "width"),
        ("avi", {}, "output"),
        ("mp4", {"columns": 2}, "cells"),
    ],
)
def test_what_is_refused(kind: VideoKind, values: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        make_video(kind, **values)
    assert caught.value.field == field


def test_frames_between_keyframes_are_checked() -> None:
    """A matrix that turns into its mirror image is singular on the way."""
    keyframes = [
        Keyframe(0.0, (Latent(seed=1),), FULL, parse_transforms([{"matrix": [1, 0, 0, 0, 1, 0]}]), "linear"),
        Keyframe(1.0, (Latent(seed=1),), FULL, parse_transforms([{"matrix": [-1, 0, 0, 0, 1, 0]}]), "linear"),
    ]
    video = VideoSpec("model", 4, "mp4", Timeline(keyframes, 10), 32, 32)
    with pytest.raises(InputError, match="singular"):
        video.rendered_pixels(32)


def test_without_pyav_animated_pictures_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"creps-serve\[video\]"):
        videos.require_pyav("mp4")
    videos.require_pyav("apng")
