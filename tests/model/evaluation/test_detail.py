"""Edges and spectra of images whose values are known, and metrics of patches at several scales."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.data.dataset import ImageDataset
from model.errors import InputError
from model.evaluation.detail import edge_width, power_spectrum
from model.evaluation.evaluation import Evaluation
from model.evaluation.image_sets import Sampler
from model.viewport import Viewport
from service.cli import main
from tests.kernels.networks import TINY, random_checkpoint
from tests.model.data.images import write_images
from tests.model.evaluation.toy import use_toy, write_weights

R = 16


def _grey(brightness: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.repeat((brightness.clip(0, 1) * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("angle", [0, 30, 45, 60, 90, 120, 180, 270])
@pytest.mark.parametrize("width", [4, 9])
def test_the_width_of_a_ramp(width: int, angle: float) -> None:
    """Eight tenths of its length, in every direction."""
    y, x = np.mgrid[:64, :64] - 31.5
    across = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    assert edge_width([_grey(across / width + 0.5)]) == pytest.approx(0.8 * width, rel=0.08, abs=0.2)


def test_a_sharp_edge_and_none() -> None:
    sharp = np.zeros((32, 32))
    sharp[:, 13:] = 1
    assert edge_width([_grey(sharp)]) == pytest.approx(0.8)
    assert edge_width([_grey(sharp * 0.1)]) is None
    assert edge_width([]) is None


def test_the_spectrum_of_waves_and_noise() -> None:
    y, x = np.mgrid[:64, :64] / 64
    low, high = (0.5 + 0.4 * np.sin(2 * np.pi * f * (x * 0.6 + y * 0.8)) for f in (5, 20))
    spectra = [power_spectrum([_grey(image)]) for image in (low, high, 0.5 + (low - 0.5) / 2)]
    assert [spectrum.argmax() + 1 for spectrum in spectra] == [5, 20, 5]
    assert len(spectra[0]) == 31
    assert spectra[0].max() - spectra[2].max() == pytest.approx(6.0, abs=0.2)
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3)).astype(np.uint8)
    spectrum = power_spectrum(noise)
    assert np.ptp(spectrum[2:]) < 2.5


def _disc_sampler(softness: float) -> Sampler:
    """Draws a disc, of which the seed shifts the centre, with an edge of a fixed width in the unit square."""

    def draw(seeds: Sequence[int], viewport: Viewport, /) -> list[NDArray[np.uint8]]:
        x, y, w, h = viewport.crop
        u, v = (np.arange(x, x + w) + 0.5) / viewport.width, (np.arange(y, y + h) + 0.5) / viewport.height
        images = []
        for seed in seeds:
            radius = np.hypot(u - 0.4 - seed % 5 * 0.05, v[:, None] - 0.4 - seed % 3 * 0.1)
            images.append(_grey(0.5 + np.tanh((0.3 - radius) / softness) / 2))
        return images

    return draw


@pytest.fixture(name="discs", scope="module")
def _discs(tmp_path_factory: pytest.TempPathFactory) -> ImageDataset:
    """Discs of 64² with sharp edges, read at 16²."""
    folder = tmp_path_factory.mktemp("discs")
    sampler = _disc_sampler(0.02)
    for i in range(15):
        Image.fromarray(sampler([i], Viewport.resolve(64, 64))[0]).save(folder / f"{i:02d}.png")
    command = ["dataset", str(folder), str(folder / "set.zip"), "--resolution", str(R), "--keep-size"]
    assert main(command) == 0
    return ImageDataset(folder / "set.zip", R)


def _measure(
    data: ImageDataset, sampler: Sampler, metrics: Sequence[str], weights: Path | None = None
) -> dict[str, float]:
    return Evaluation(TINY, metrics, data, 30, inception_weights=weights).measure(sampler)


def test_equal_images_have_equal_detail(discs: ImageDataset) -> None:
    values = _measure(discs, _disc_sampler(0.02), ["edges", "spectra"])
    assert set(values) == {f"{name}_{s}" for s in (1, 2, 4) for name in ("edges", "spectra")} | {
        f"edges_{s}_data" for s in (1, 2, 4)
    }
    assert values["edges_4"] == pytest.approx(values["edges_4_data"], rel=0.02)
    assert values["edges_4"] == pytest.approx(64 * 0.02 * np.arctanh(0.8) * 2, rel=0.2)
    assert values["spectra_4"] < 0.5


def test_blurred_images_have_wide_edges_and_less_power(discs: ImageDataset) -> None:
    """Their whole images of 16² are much the same; four times as large they are not."""
    sharp, soft = (_measure(discs, _disc_sampler(softness), ["edges", "spectra"]) for softness in (0.02, 0.04))
    assert soft["edges_4"] > 1.5 * sharp["edges_4"]
    assert soft["spectra_4"] > sharp["spectra_4"] + 2
    assert soft["edges_4_data"] == sharp["edges_4_data"]


def test_fid_of_patches(discs: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)
    weights = write_weights(tmp_path / "toy.pth")
    same, other = (_measure(discs, _disc_sampler(softness), ["pfid"], weights) for softness in (0.02, 0.3))
    assert list(same) == ["pfid_1", "pfid_2", "pfid_4"]
    assert all(same[name] < 3 < other[name] for name in same)


def test_data_of_one_size_has_one_scale(tmp_path: Path) -> None:
    data = ImageDataset(write_images(tmp_path, count=3, size=R), R)
    assert list(_measure(data, _disc_sampler(0.1), ["spectra"])) == ["spectra_1"]
    with pytest.raises(InputError, match="data: is needed by edges"):
        Evaluation(TINY, ["edges"])
    with pytest.raises(InputError, match="inception-weights: download"):
        Evaluation(TINY, ["pfid"], data)


def test_the_command_tells_units_and_sizes(
    discs: ImageDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = random_checkpoint(tmp_path, TINY).path
    arguments = ["evaluate", str(path), "--metrics", "edges,spectra", "--count", "4", "--device", "cpu"]
    report = tmp_path / "report.json"
    assert main([*arguments, "--data", str(discs.archive.path), "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    assert " dB   patches of 16² of images of 64²" in printed
    assert " px   patches of 16² of images of 32²" in printed
    assert '"scales": [\n      1,' in report.read_text()


def test_the_command_draws_two_networks_beside_each_other(
    discs: ImageDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("whole", "patches"):
        network = random_checkpoint(tmp_path, TINY)
        (tmp_path / run).mkdir()
        network.path.rename(tmp_path / run / "checkpoint-000000008.safetensors")
    paths = [str(tmp_path / run / "checkpoint-000000008.safetensors") for run in ("patches", "whole")]
    figures = [tmp_path / "details.png", tmp_path / "spectra.png"]
    options = ["--figure", str(figures[0]), "--spectra-figure", str(figures[1]), "--compare", paths[1]]
    arguments = ["evaluate", paths[0], "--count", "1", "--device", "cpu", "--data", str(discs.archive.path), *options]
    assert main(arguments) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["spectra_1", "spectra_2", "spectra_4"]
    widths = []
    for figure in figures:
        with Image.open(figure) as image:
            widths.append(image.width)
    assert widths[0] > 4 * 384  # four panels, with the other network's
    assert widths[1] > 3 * 300  # a plot for each scale


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compare", "demo", "--metrics", "scale"], "compare: is for --figure and --spectra-figure"),
        (["--compare", "demo", "--figure", "a.png"], "compare: demo has 0 classes, not 3 as random"),
        (["--compare", "x", "--figure", "a.png"], "compare: x does not exist"),
        (["--spectra-figure", "a.png"], "data: is needed by spectra"),
    ],
)
def test_figures_that_cannot_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    path = random_checkpoint(tmp_path, replace(TINY, classes=3)).path
    assert main(["evaluate", str(path), "--device", "cpu", *options]) == 2
    assert message in capsys.readouterr().err
