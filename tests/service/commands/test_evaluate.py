"""``creps evaluate`` as users run it: with the bundled network, real pictures, and features worked out by hand."""

import json
from pathlib import Path

import pytest
from PIL import Image

from model.checkpoint import Checkpoint, save_checkpoint
from model.evaluation.evaluation import Evaluation, evaluate_generator
from model.evaluation.network import GeneratorDrawer
from model.evaluation.pictures import open_data
from service.catalog import DEMO
from service.cli import main
from tests.kernels.networks import VARIANTS, random_network
from tests.model.evaluation.toy import use_toy, write_weights
from tests.model.training.pictures import write_pictures, write_zip


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


def test_all_metrics_a_report_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, weights = write_pictures(tmp_path / "data", count=6, size=64), write_weights(tmp_path / "toy.pth")
    report, figure = tmp_path / "out" / "report.json", tmp_path / "out" / "figure.png"
    arguments = [
        "evaluate", "demo", "--data", str(data), "--metrics", "fid,kid,pr,scale", "--count", "5", "--psi", "0.7",
        "--inception-weights", str(weights), "--vgg-weights", str(weights), "--device", "cpu",
        "--json", str(report), "--figure", str(figure),
    ]  # fmt: skip
    assert main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["fid", "kid", "precision", "recall", "scale", "scale_worst"]
    values = json.loads(report.read_text())
    assert values["digest"] == Checkpoint.open(DEMO).digest
    assert values["drawn"] == {"count": 5, "size": 64, "grid": "corners"}
    assert values["data"]["count"] == 6
    assert values["psi"] == 0.7
    assert values["kid_subset_size"] == 5
    assert 28 < values["values"]["scale_worst"] <= values["values"]["scale"] < 45
    assert values["values"]["fid"] > 0
    with Image.open(figure) as picture:
        assert picture.width > 600
        assert picture.height > 600


def test_a_network_is_judged_at_the_size_of_the_data(tmp_path: Path) -> None:
    """As the source judges a network of 512² among pictures of 1024²."""
    data, weights = write_pictures(tmp_path / "data", count=4, size=128), write_weights(tmp_path / "toy.pth")
    report = tmp_path / "report.json"
    arguments = ["evaluate", "demo", "--data", str(data), "--metrics", "fid", "--count", "3", "--device", "cpu"]
    assert main([*arguments, "--inception-weights", str(weights), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["drawn"]["size"] == 128


def test_a_conditional_network_draws_the_classes_of_the_data(tmp_path: Path) -> None:
    """Values are those of a generator that was told the classes, up to the renderer's rounding."""
    config = VARIANTS["conditional"]
    generator = random_network(config)
    checkpoint = save_checkpoint(tmp_path / "network.safetensors", generator)
    folder, weights = write_pictures(tmp_path / "data", count=6, size=16), write_weights(tmp_path / "toy.pth")
    data = write_zip(tmp_path / "data.zip", folder, {f"{i:03d}.png": 2 * (i % 2) for i in range(6)})
    report = tmp_path / "report.json"
    arguments = ["evaluate", str(checkpoint.path), "--data", str(data), "--metrics", "fid", "--count", "40"]
    arguments += ["--batch", "7", "--device", "cpu", "--inception-weights", str(weights), "--json", str(report)]
    assert main(arguments) == 0
    value = json.loads(report.read_text())["values"]["fid"]
    expected = evaluate_generator(generator, ["fid"], open_data(data), 40, weights)["fid"]
    assert value == pytest.approx(expected, rel=1e-3)
    others = Evaluation(config, ["fid"], open_data(data), 40, inception_weights=weights)
    assert others.measure(GeneratorDrawer(generator, [1] * 40))["fid"] != pytest.approx(expected, rel=1e-2)


def test_scale_consistency_needs_neither_data_nor_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "demo", "--metrics", "scale", "--count", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "2 pictures of 64² and twice that" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "metrics: must be of fid, kid, pr, scale, or --figure be given"),
        (["--metrics", "beauty"], "metrics: must be of fid, kid, pr, scale, not 'beauty'"),
        (["--metrics", "fid"], "data: is needed by fid"),
        (["--metrics", "fid", "--data", "data"], "inception-weights: fetch"),
        (["--metrics", "pr", "--data", "data"], "vgg-weights: fetch"),
        (["--metrics", "fid", "--data", "data", "--inception-weights", "data"], "inception-weights: "),
        (["--metrics", "fid", "--data", "nowhere"], "nowhere is neither a folder nor a zip"),
        (["--metrics", "scale", "--count", "0"], "count: must be from 1"),
        (["--metrics", "scale", "--size", "32"], "size: scale takes at least the training resolution 64, not 32"),
        (["--metrics", "scale", "--psi", "9"], "psi: "),
        (["--metrics", "scale", "--json", "data"], "json: data is a folder"),
        (["--metrics", "scale", "--device", "tpu"], "device: must be auto"),
    ],
)
def test_a_fault_is_one_line_and_nothing_is_drawn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data", count=4, size=64)
    assert main(["evaluate", "demo", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
