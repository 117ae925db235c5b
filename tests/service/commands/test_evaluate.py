"""``creps evaluate`` with the bundled network, image files and a toy feature network."""

import json
from pathlib import Path

import pytest
from PIL import Image

from model.checkpoint import Checkpoint, save_checkpoint
from model.evaluation.evaluation import Evaluation
from model.evaluation.generator_sampler import GeneratorSampler
from model.evaluation.image_sets import open_dataset
from service.cli import main
from service.models.catalog import DEMO
from tests.kernels.networks import VARIANTS, random_network
from tests.model.data.images import write_images, write_zip
from tests.model.evaluation.toy import evaluate_generator, use_toy, write_weights


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    use_toy(monkeypatch)


@pytest.mark.slow
def test_all_metrics_a_report_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, weights = write_images(tmp_path / "data", count=6, size=64), write_weights(tmp_path / "toy.pth")
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
    assert values["drawn"] == {"count": 5, "size": 64, "grid": "centers"}
    assert values["data"]["count"] == 6
    assert values["psi"] == 0.7
    assert values["kid_subset_size"] == 5
    assert 45 < values["values"]["scale_worst"] <= values["values"]["scale"] < 60
    assert values["values"]["fid"] > 0
    with Image.open(figure) as image:
        assert image.width > 600
        assert image.height > 600


def test_a_network_is_judged_at_the_size_of_the_data(tmp_path: Path) -> None:
    """As the paper evaluates a network of 512² on images of 1024²."""
    data, weights = write_images(tmp_path / "data", count=4, size=128), write_weights(tmp_path / "toy.pth")
    report = tmp_path / "report.json"
    arguments = ["evaluate", "demo", "--data", str(data), "--metrics", "fid", "--count", "3", "--device", "cpu"]
    assert main([*arguments, "--inception-weights", str(weights), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["drawn"]["size"] == 128


def test_a_conditional_network_draws_the_classes_of_the_data(tmp_path: Path) -> None:
    """Values equal those of a generator that is given the classes, up to the renderer's rounding."""
    config = VARIANTS["conditional"]
    generator = random_network(config)
    checkpoint = save_checkpoint(tmp_path / "network.safetensors", generator)
    folder, weights = write_images(tmp_path / "data", count=6, size=16), write_weights(tmp_path / "toy.pth")
    data = write_zip(tmp_path / "data.zip", folder, {f"{i:03d}.png": 2 * (i % 2) for i in range(6)})
    report = tmp_path / "report.json"
    arguments = ["evaluate", str(checkpoint.path), "--data", str(data), "--metrics", "fid", "--count", "40"]
    arguments += ["--batch", "7", "--device", "cpu", "--inception-weights", str(weights), "--json", str(report)]
    assert main(arguments) == 0
    value = json.loads(report.read_text())["values"]["fid"]
    expected = evaluate_generator(generator, ["fid"], open_dataset(data), 40, weights)["fid"]
    assert value == pytest.approx(expected, rel=1e-3)
    others = Evaluation(config, ["fid"], open_dataset(data), 40, inception_weights=weights)
    assert others.measure(GeneratorSampler(generator, [1] * 40))["fid"] != pytest.approx(expected, rel=1e-2)


def test_scale_consistency_needs_neither_data_nor_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "demo", "--metrics", "scale", "--count", "2", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "2 images of 64²" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "metrics: must be some of fid, kid, pr, scale"),
        (
            ["--metrics", "beauty"],
            "metrics: must be of fid, kid, pr, scale, eqt, eqr, pfid, edges, spectra, not 'beauty'",
        ),
        (["--metrics", "fid"], "data: is needed by fid"),
        (["--metrics", "fid", "--data", "data"], "inception-weights: download"),
        (["--metrics", "pr", "--data", "data"], "vgg-weights: download"),
        (["--metrics", "fid", "--data", "data", "--inception-weights", "data"], "inception-weights: "),
        (["--metrics", "fid", "--data", "nowhere"], "data: nowhere does not exist"),
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
    write_images(tmp_path / "data", count=4, size=64)
    assert main(["evaluate", "demo", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
