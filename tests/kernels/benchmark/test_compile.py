"""Every kernel compiles for GPUs that are not there, without what would make it slow."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kernels.benchmark.compile import Compiled, main, table
from model.errors import InputError

CLEAN = Compiled("draw_pixels", 90, "fp16", 186, 0, 163_840, {"HGMMA": 72}, serialised=False, multiplies=True)


COMPILING = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
"""Environment of a process whose kernels are compiled."""


def compile_all(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kernels.benchmark", "compile", *options],
        env=COMPILING,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.mark.timeout(900)
def test_the_papers_network_has_no_faults(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = compile_all(f"--json={report}")
    assert done.returncode == 0, done.stderr
    compiled = json.loads(report.read_text())
    kernels = {"modulate", "draw_fourier_features", "multiply_modulated", "add_to_lines", "draw_pixels"}
    for architecture, instruction in ((80, "HMMA"), (90, "HGMMA")):
        found = [c for c in compiled if c["architecture"] == architecture]
        assert {c["kernel"] for c in found} == kernels | {"average_colours"}
        for kernel in kernels:
            assert any(c["kernel"] == kernel and c["shape"].startswith("fp16 ") for c in found)
        assert any("gather" in c["shape"] for c in found)
        assert all(c["spills"] == 0 for c in found)
        assert all(c["registers"] <= 255 for c in found)
        assert all(instruction in c["instructions"] for c in found if c["multiplies"])
    assert sum("fp16×3" in c["shape"] for c in compiled if c["architecture"] == 90) > 5
    assert len(done.stdout.splitlines()) == len(compiled) + 1
    # One when the weights are in place; within the loop over tiles only the last phase has one, to write its bytes.
    assert all(c["instructions"]["BAR"] <= 2 for c in compiled if c["kernel"] == "draw_pixels")


@pytest.mark.timeout(300)
def test_faults_end_with_status_1() -> None:
    """A plan with more decoders in a launch than shared memory has room for."""
    program = """
from dataclasses import replace
from kernels.benchmark.compile import main
from kernels.plans import PLANS, PixelPlan
if __name__ == "__main__":
    PLANS[90] = replace(PLANS[90], pixels=PixelPlan(9, 9), precise_pixels=None)
    main(["--preset=creps-128", "--arch=90"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=COMPILING, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    assert "sm_90 draw_pixels fp16 decoders 0-5 start head quantise: needs 279,552" in done.stderr
    assert "bytes of shared memory of 227 KiB" in done.stderr


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"spills": 8}, "spills 8 bytes"),
        ({"serialised": True}, "wgmma is serialised"),
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
    assert line.split() == ["90", "draw_pixels", "fp16", "186", "0", "160", "72", "0", "0", "0", "0", "0", "0", "0"]


@pytest.mark.parametrize("options", [["--arch=75"], ["--arch="], ["--arch=90,x"], ["--preset=huge"]])
def test_mistakes_are_one_line(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="kernels are compiled here")
def test_interpreted_kernels_cannot_be_compiled() -> None:
    with pytest.raises(InputError, match="TRITON_INTERPRET: is set"):
        main([])
