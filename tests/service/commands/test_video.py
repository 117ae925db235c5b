"""``creps video``: the frames of the files that it writes, and its one-line errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.geometry.transforms import parse_transforms
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from service.cli import main
from service.imaging.video import VideoWriter
from tests.kernels.networks import random_checkpoint

av = pytest.importorskip("av")

ZOOM: dict[str, Any] = {
    "keyframes": [
        {"time": 0, "seed": 1},
        {"time": 0.5, "seed": 1, "region": [0.2, 0.2, 0.4, 0.4], "rotate": 30, "easing": "linear"},
    ]
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.3)


def frames(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def still(checkpoint: Checkpoint, seed: int, size: int = 32, **viewport: Any) -> NDArray[np.uint8]:
    spec = RenderSpec("random", Latent(seed=seed), Viewport.resolve(size, size, **viewport))
    return Renderer(checkpoint, "cpu").render(spec)


def test_a_walk_passes_through_its_seeds(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Lossless frames equal the stills."""
    path = tmp_path / "walk.mkv"
    options = "--seeds 3,5 --w-frames 4 --fps 10 --size 32x32 --device cpu"
    assert main(["video", str(checkpoint.path), *options.split(), "--output", str(path)]) == 0
    found = frames(path)
    assert len(found) == 8
    for index, seed in ((0, 3), (4, 5)):
        assert np.abs(found[index].astype(int) - still(checkpoint, seed)).max() <= 1  # w is rounded once more
    steps = [np.abs(a.astype(int) - b).mean() for a, b in zip(found, [*found[1:], found[0]], strict=True)]
    assert min(steps) > 0


def test_keyframes_zoom_and_turn(checkpoint: Checkpoint, tmp_path: Path) -> None:
    keyframes, path = tmp_path / "keyframes.json", tmp_path / "zoom.mkv"
    keyframes.write_text(json.dumps(ZOOM))
    options = ["--keyframes", str(keyframes), "--fps", "10", "--size", "32x32", "--device", "cpu"]
    assert main(["video", str(checkpoint.path), *options, "--output", str(path)]) == 0
    found = frames(path)
    assert len(found) == 6
    assert np.abs(found[0].astype(int) - still(checkpoint, 1)).max() <= 1
    last = still(checkpoint, 1, region=(0.2, 0.2, 0.4, 0.4), transform=parse_transforms([{"rotate": 30}]))
    assert np.abs(found[5].astype(int) - last).max() <= 1


@pytest.mark.parametrize("suffix", ["mp4", "webm", "apng", "webp"])
def test_every_kind_of_file(suffix: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    options = "--seeds 3,5,3,5 --w-frames 3 --grid 2x1 --size 32x48 --device cpu"
    assert main(["video", str(checkpoint.path), *options.split(), "--output", str(path)]) == 0
    assert path.stat().st_size > 0
    if suffix == "webp":  # FFmpeg cannot decode animations of its own
        assert path.read_bytes().count(b"ANMF") == 6
        return
    found = frames(path)
    assert (len(found), found[0].shape) == (6, (48, 64, 3))


def test_mp4_is_bt709_and_close_to_the_frames(tmp_path: Path) -> None:
    x = np.linspace(0, 255, 64)
    image = np.stack([np.tile(x, (48, 1)), np.tile(x[::-1], (48, 1)), np.full((48, 64), 90.0)], -1).astype(np.uint8)
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        with VideoWriter(path, "mp4", 25, 64, 48) as writer:
            for _ in range(5):
                writer.write(image)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with av.open(str(paths[0])) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert (stream.frames, float(stream.average_rate)) == (5, 25.0)
    for found in frames(paths[0]):
        error = np.square(found.astype(float) - image).mean()
        assert 10 * np.log10(255**2 / error) > 38


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--seeds", "0-3", "--output", "a.avi"], "output"),
        (["--seeds", "0-3", "--size", "31x32", "--output", "a.mp4"], "size"),
        (["--seeds", "0-3", "--grid", "3x1", "--output", "a.mp4"], "seeds"),
        (["--seeds", "0-3", "--w-frames", "0", "--output", "a.mp4"], "w-frames"),
        (["--seeds", "0-3", "--fps", "0.1", "--output", "a.mp4"], "fps"),
        (["--seeds", "0-31", "--w-frames", "5000", "--output", "a.mp4"], "keyframes"),
        (["--seeds", "0", "--size", "8194x2", "--output", "a.mp4"], "size"),
    ],
)
def test_what_is_refused(
    options: list[str], field: str, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["video", str(checkpoint.path), *options]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert field in errors


@pytest.mark.parametrize(
    "changed",
    [
        "not JSON",
        "[]",
        '{"keyframes": [{"time": 0, "seed": 1}]}',
        '{"keyframes": [{"time": 0, "seed": 1}, {"time": 0, "seed": 1}]}',
        '{"keyframes": [{"time": 0, "seed": 1}, {"time": 1, "seed": 1, "spin": 3}]}',
        '{"keyframes": [{"time": 0, "seed": 1}, {"time": 1, "seed": 1, "region": [0, 0]}]}',
        '{"keyframes": [{"time": 0, "seed": 1}, {"time": 1, "seed": 1, "region": [0, 0, 3, 3]}]}',
        '{"keyframes": [{"time": 0, "seed": 1}, {"time": NaN, "seed": 1}]}',
    ],
)
def test_keyframes_that_are_refused(
    changed: str, checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keyframes = tmp_path / "keyframes.json"
    keyframes.write_text(changed)
    options = ["--keyframes", str(keyframes), "--output", str(tmp_path / "a.mp4")]
    assert main(["video", str(checkpoint.path), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
