"""``creps benchmark patches`` on a tiny budget, its toy set and its targets."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation.detail import edge_width
from service.benchmark import patches
from service.benchmark.patches import SIDE, draw_disc, judge
from service.cli import main


def test_the_toy_set_has_edges_of_a_pixel() -> None:
    images = [draw_disc(np.random.default_rng(number)) for number in range(4)]
    assert edge_width(images) == pytest.approx(0.8, abs=0.5)
    assert all((image[0] == 255).all() for image in images)
    assert not np.array_equal(images[0], images[1])


def test_targets_are_met_or_missed() -> None:
    control = {"edges_8": 6.0, "spectra_4": 8.0, "scale": 40.0}
    lines = judge({"edges_8": 3.0, "spectra_4": 2.9, "scale": 39.0}, control)
    assert [line.partition(":")[0] for line in lines] == ["met"] * 3
    lines = judge({"edges_8": 3.1, "spectra_4": 3.1, "scale": 38.9}, control)
    assert [line.partition(":")[0] for line in lines] == ["missed"] * 3


@pytest.mark.slow
def test_three_networks_are_trained_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(patches, "IMAGES", 20)
    folder = tmp_path / "benchmark"
    arguments = ["benchmark", "patches", "--outdir", str(folder), "--count", "1"]
    assert main([*arguments, "--whole-kimg", "0.016", "--kimg", "0.016"]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed if line.startswith(("whole", "control", "patches"))] == [
        "whole",
        "control",
        "patches",
    ]
    assert sum(line.startswith(("met: ", "missed: ")) for line in printed) == 3
    report = json.loads((folder / "report.json").read_text())
    assert set(report) == {"whole", "control", "patches"}
    assert {"edges_8_data", "spectra_4", "scale"} <= set(report["control"])
    with Image.open(folder / "details.png") as details:
        assert details.width > 4 * SIDE
    assert main(arguments) == 2  # the folder exists
