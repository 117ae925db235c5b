"""The benchmark runs from the command line, and with nothing but torch, numpy and safetensors installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli import main

SUBMODULES = "kernels.renderer", "kernels.benchmark"


def test_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert main(["benchmark", "render", "--preset=tiny-32", "--size=96x40", f"--json={report}"]) == 0
    output = capfd.readouterr().out
    assert all(word in output for word in ("96×40", "cpu", "reference", "peak MiB", "GFLOP/s"))
    figures = json.loads(report.read_text())
    assert figures["size"] == [96, 40]
    assert figures["config"]["resolution"] == 32
    assert figures["matrix_gflops"] > 0
    assert [measured["backend"] for measured in figures["measurements"]] == ["cpu", "reference"]
    for measured in figures["measurements"]:
        assert measured["pixels_seconds"] > 0
        assert measured["gflops"] > 0
        assert 50 < measured["peak_mib"] < 5000


@pytest.mark.parametrize("options", ["--preset=huge", "--size=0x5", "--size=5", "--backends=cpu,gpu", "--backends="])
def test_mistakes_are_one_line(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(["benchmark", "render", options]) == 2
    except SystemExit as exit_:
        assert exit_.code == 2  # noqa: PT017
    assert capsys.readouterr().err.count("\n") == 1


def test_needs_no_other_package() -> None:
    absent = [
        "tqdm",
        "imagecodecs",
        "PIL",
        "pydantic",
        "fastapi",
        "redis",
        "prometheus_client",
        "tensorboard",
        "service",
    ]
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import {', '.join(SUBMODULES)}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
