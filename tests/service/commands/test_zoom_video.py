"""``creps evaluate --zoom-video``: the frames of the file, and the values of the curve under them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint
from model.evaluation import size_zoom
from model.evaluation.scale_consistency import MAX_PSNR
from model.latents.latent import Latent
from model.spec import RenderSpec
from model.viewport import Viewport
from service.cli import main
from tests.kernels.networks import random_checkpoint

av = pytest.importorskip("av")

pytestmark = pytest.mark.xdist_group("zoom video")  # they share one

MOVING, STANDING = 14, 3
"""Frames of the zoom and of its last image."""

SEED, PANEL, TOP, LEFT, RIGHT = 5, 512, 48, 24, 560
CURVE = 214, 26, 84

Zoom = tuple[list[NDArray[np.uint8]], dict[int, float]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return random_checkpoint(tmp_path_factory.mktemp("checkpoint"), frequencies=0.3)


@pytest.fixture(autouse=True, scope="module")
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("MOVING", MOVING), ("STANDING", STANDING), ("MIN_LAST", 1024)):
            patch.setattr(size_zoom, name, value)
        yield


@pytest.fixture(scope="module")
def zoom(_short: None, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Zoom:
    """A lossless video's frames, and its curve from the report."""
    folder = tmp_path_factory.mktemp("zoom")
    path, report = folder / "zoom.mkv", folder / "zoom.json"
    options = f"--zoom-video {path} --zoom-seed {SEED} --json {report} --device cpu"
    assert main(["evaluate", str(checkpoint.path), *options.split()]) == 0
    values = json.loads(report.read_text())["zoom"]
    assert values["seed"] == SEED
    return frames(path), {each["size"]: each["psnr"] for each in values["curve"]}


def zoomed_sizes(resolution: int) -> list[int]:
    return [round(resolution / 2 * (1024 * 2 / resolution) ** (k / (MOVING - 1))) for k in range(MOVING)]


def frames(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_zoom_beside_the_enlarged_image(checkpoint: Checkpoint, zoom: Zoom) -> None:
    found, curve = zoom
    resolution, renderer = checkpoint.config.resolution, Renderer(checkpoint, "cpu")

    def render(size: int, **viewport: Any) -> NDArray[np.uint8]:
        return renderer.render(RenderSpec("random", Latent(seed=SEED), Viewport.resolve(size, size, **viewport)))

    small = Image.fromarray(render(resolution))
    sizes = zoomed_sizes(resolution) + [1024] * STANDING
    assert len(found) == len(sizes)
    assert set(curve) == {*sizes, resolution}

    for frame, size in ((found[0], sizes[0]), (found[5], sizes[5])):
        assert size < PANEL
        resized = small.resize((size, size), Image.Resampling.LANCZOS)
        for left, image in ((LEFT, Image.fromarray(render(size))), (RIGHT, resized)):
            expected = np.asarray(image.resize((PANEL, PANEL), Image.Resampling.NEAREST))
            assert np.array_equal(frame[TOP : TOP + PANEL, left : left + PANEL], expected)

    last, whole = found[-1], render(1024)
    assert np.array_equal(last, found[MOVING - 1])
    shown = last[TOP : TOP + PANEL, LEFT : LEFT + PANEL]
    corners = [round(corner * 1024 / resolution) for corner in range(resolution // 2 + 1)]
    parts = (whole[y : y + PANEL, x : x + PANEL] for y in corners for x in corners)
    assert min(np.abs(part.astype(int) - shown).max() for part in parts) <= 1


def test_the_curve_has_the_psnr_of_whole_images(checkpoint: Checkpoint, zoom: Zoom) -> None:
    found, curve = zoom
    resolution, renderer = checkpoint.config.resolution, Renderer(checkpoint, "cpu")

    def render(size: int) -> NDArray[np.uint8]:
        return renderer.render(RenderSpec("random", Latent(seed=SEED), Viewport.resolve(size, size)))

    assert curve[resolution] == MAX_PSNR
    for size in (min(curve), sorted(curve)[5], max(curve)):
        resized = Image.fromarray(render(resolution)).resize((size, size), Image.Resampling.LANCZOS)
        error = np.square(render(size).astype(float) - np.asarray(resized)).mean()
        assert curve[size] == pytest.approx(10 * math.log10(255**2 / error), abs=1e-6)

    # The dot moves by equally many pixels for equally many decibels. Beside the peak the curve is too steep to find it.
    sizes = zoomed_sizes(resolution)
    moved = {
        size: dot_height(frame) for frame, size in zip(found, sizes, strict=False) if abs(size / resolution - 1) > 0.2
    }
    heights, levels = np.array(list(moved.values())), np.array([curve[size] for size in moved])
    assert np.ptp(levels) > 5
    slope, offset = np.polyfit(levels, heights, 1)
    assert slope < 0
    assert np.abs(slope * levels + offset - heights).max() < 1.5


def dot_height(frame: NDArray[np.uint8]) -> float:
    """The row of the dot, which is where the curve's colour ends."""
    chart = TOP + PANEL + 50
    rows, columns = np.nonzero((frame[chart:] == CURVE).all(axis=2))
    return float(rows[columns > columns.max() - 6].mean())


@pytest.mark.slow
def test_an_animated_png(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = ["--zoom-video", str(tmp_path / "zoom.apng"), "--device", "cpu"]
    assert main(["evaluate", str(checkpoint.path), *options]) == 0
    with Image.open(tmp_path / "zoom.apng") as image:
        assert (getattr(image, "n_frames", 1), image.size) == (MOVING + STANDING, (1096, 800))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--zoom-video", "zoom.avi"], "zoom-video: must end in one of .mp4, .webm, .apng, .webp, .mkv, not zoom.avi"),
        (["--zoom-video", "zoom.mp4", "--zoom-seed", "-1"], "zoom-seed: must be from 0 to 49,999 (--count), not -1"),
        (["--zoom-video", "/dev/null/zoom.mp4"], "zoom-video: /dev/null/zoom.mp4 cannot be written"),
    ],
)
def test_what_is_refused(
    options: list[str], message: str, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(checkpoint.path), *options]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
