"""``creps benchmark train`` as users run it, on the smallest preset."""

import json
from pathlib import Path

import pytest

from model.training import benchmark
from service.cli import main


def test_contestants_are_measured_apart_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["benchmark", "train", "--presets", "tiny-32", "--batch", "2", "--steps", "1", "--device", "cpu"]
    assert main([*arguments, "--json", str(tmp_path / "report.json")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "CPU, torch" in printed[0]
    assert [line.split("  ")[1].strip() for line in printed[2:]] == ["in chunks", "all kept"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert [m["what"] for m in report["measurements"]] == ["in chunks", "all kept"]  # compiled on a GPU alone
    for measurement in report["measurements"]:
        assert measurement["pictures"] == 2
        assert 1 < measurement["seconds"] < 10_000
        assert 1e8 < measurement["peak_bytes"] < 1e10
        assert measurement["failure"] == ""


def test_ablations_are_trained_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "ABLATIONS", {"no decoders": benchmark.ABLATIONS["no decoders"]})
    arguments = ["--presets", "tiny-32", "--batch", "2", "--steps", "1", "--device", "cpu", "--ablations"]
    assert main(["benchmark", "train", *arguments, "--json", str(tmp_path / "report.json")]) == 0
    assert "s/picture" in capsys.readouterr().out
    trained, drawn = json.loads((tmp_path / "report.json").read_text())["measurements"]
    assert (trained["what"], drawn["what"]) == ("no decoders: train", "no decoders: draw")
    assert 0 < drawn["seconds"] < trained["seconds"]


def test_what_does_not_fit_is_not_begun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(benchmark, "installed_memory", lambda _: 1 << 20)
    assert main(["benchmark", "train", "--presets", "tiny-32", "--batch", "1", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.count("needs 0 GiB") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presets", "tiny-32,huge"], "presets: must be of tiny-32"),
        (["--batch", "0"], "batch: must be at least 1, not 0"),
        (["--steps", "0"], "--steps"),
        (["--device", "tpu"], "device: must be auto"),
    ],
)
def test_faults_are_named(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    try:
        status = main(["benchmark", "train", *arguments])
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert len(printed.splitlines()) == 1
