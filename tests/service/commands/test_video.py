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
        assert np.array_equal(found[index], still(checkpoint, seed))
    steps = [np.abs(a.astype(int) - b).mean() for a, b in zip(found, [*found[1:], found[0]], strict=True)]
    assert min(steps) > 0


def test_keyframes_zoom_and_turn(checkpoint: Checkpoint, tmp_path: Path) -> None:
    keyframes, path = tmp_path / "keyframes.json", tmp_path / "zoom.mkv"
    keyframes.write_text(json.dumps(ZOOM))
    options = ["--keyframes", str(keyframes), "--fps", "10", "--size", "32x32", "--device", "cpu"]
    assert main(["video", str(checkpoint.path), *options, "--output", str(path)]) == 0
    found = frames(path)
    assert len(found) == 6
    assert np.array_equal(found[0], still(checkpoint, 1))
    last = still(checkpoint, 1, region=(0.2, 0.2, 0.4, 0.4), transform=parse_transforms([{"rotate": 30}]))
    assert np.array_equal(found[5], last)


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


def test_x264_is_close_to_the_images(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Above 45 dB of luma, BT.709 in narrow range; chroma has a quarter of the samples."""
    options = "--seeds 3,5 --w-frames 4 --size 64x64 --device cpu"
    for suffix in ("mkv", "mp4"):
        assert main(["video", str(checkpoint.path), *options.split(), "--output", str(tmp_path / f"a.{suffix}")]) == 0
    exact = 16 + 219 / 255 * (np.stack(frames(tmp_path / "a.mkv")) @ [0.2126, 0.7152, 0.0722])
    with av.open(str(tmp_path / "a.mp4")) as container:
        planes = [frame.to_ndarray(format="yuv420p")[:64] for frame in container.decode(video=0)]
    assert 10 * np.log10(219**2 / np.square(exact - planes).mean()) > 45


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
        '{"keyframes": [{"time": 0, "seed": 1}, {"time": 1, "seed": 1, "edits": [{"direction": "up", "amount": 1}]}]}',
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
