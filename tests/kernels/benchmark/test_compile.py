"""Every kernel compiles without a GPU, and without spills or serialised instructions."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from kernels.benchmark import compile  # noqa: A004 - the subcommand
from kernels.benchmark.compile import Compiled, main, table
from model.errors import InputError

CLEAN = Compiled("pixels_kernel", 90, "fp16", 186, 0, 163_840, {"HGMMA": 72}, serialised=False, multiplies=True)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute or two on an idle machine
@pytest.mark.parametrize(
    ("architecture", "preset", "instruction"), [(90, "creps-512", "HGMMA"), (80, "creps-128", "HMMA")]
)
def test_the_papers_networks_have_no_faults(architecture: int, preset: str, instruction: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = [f"--arch={architecture}", f"--preset={preset}", f"--json={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "kernels.benchmark", "compile", *options],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
        check=False,
        timeout=880,
    )
    assert done.returncode == 0, done.stderr
    compiled = json.loads(report.read_text())
    assert len(done.stdout.splitlines()) == len(compiled) + 1
    kernels = {
        "modulate_kernel",
        "fourier_features_kernel",
        "modulated_matmul_kernel",
        "to_lines_kernel",
        "pixels_kernel",
    }
    assert {c["kernel"] for c in compiled} == kernels | {"average_colours_kernel", "mapping_kernel", "affine_kernel"}
    assert {c["kernel"] for c in compiled if c["shape"].startswith("fp16 ")} == kernels
    assert any("interpolate" in c["shape"] for c in compiled)
    assert all(c["architecture"] == architecture for c in compiled)
    assert all(c["spills"] == 0 for c in compiled)
    assert all(c["hazards"] == [] for c in compiled)
    assert all(c["registers"] <= 255 for c in compiled)
    assert all(instruction in c["instructions"] for c in compiled if c["multiplies"])
    # One when the weights are in place, and none for a tile.
    assert all(c["instructions"]["BAR"] == 1 for c in compiled if c["kernel"] == "pixels_kernel")
    assert all(c["loop_barriers"] == 0 for c in compiled if c["kernel"] == "pixels_kernel")
    assert (sum("fp16×3" in c["shape"] for c in compiled) > 5) == (architecture == 90)


@pytest.mark.parametrize("spills", [0, 8])
def test_faults_end_with_status_1(
    spills: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("triton.knobs.runtime.interpret", False)
    monkeypatch.setattr(compile, "compile_network", lambda config, architecture: [replace(CLEAN, spills=spills)])
    with pytest.raises(SystemExit, match="1") if spills else nullcontext():
        main(["--arch=90"])
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 2
    assert ("sm_90 pixels_kernel fp16: spills 8 bytes" in printed.err) == bool(spills)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"spills": 8}, "spills 8 bytes"),
        ({"serialised": True}, "wgmma is serialised"),
        ({"hazards": ("MOV R4 …", "MOV R5 …")}, "2 hazards, the first: MOV R4 …"),
        ({"shared": 227 * 1024 + 1}, "needs 232,449 bytes of shared memory of 227 KiB"),
        ({"instructions": {"HMMA": 72}}, "does not multiply with HGMMA alone"),
        ({"instructions": {"HMMA": 1, "HGMMA": 71}}, "does not multiply with HGMMA alone"),
        ({"instructions": {}}, "does not multiply with HGMMA alone"),
        ({"architecture": 80, "shared": 1024}, "does not multiply with HMMA alone"),
        ({"architecture": 100}, "does not multiply with HMMA or UTCHMMA alone"),
    ],
)
def test_what_is_a_fault(change: dict[str, object], fault: str) -> None:
    assert CLEAN.faults == []
    assert replace(CLEAN, **change).faults == [fault]  # type: ignore[arg-type]


def test_a_table_has_a_line_for_each() -> None:
    head, line = table([CLEAN]).splitlines()
    assert "registers" in head
    assert line.split() == ["90", "pixels_kernel", "fp16", "186", "0", "160", "0", "72", *["0"] * 8]


@pytest.mark.parametrize("options", [["--arch=75"], ["--arch="], ["--arch=90,x"], ["--preset=huge"]])
def test_mistakes_are_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="kernels are compiled here")
def test_interpreted_kernels_cannot_be_compiled() -> None:
    with pytest.raises(InputError, match="TRITON_INTERPRET: is set"):
        main([])
