"""What a wheel brings for machines without a compiler."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from kernels.native.targets import INSTRUCTIONS, native_targets

ROOT = Path(__file__).parents[3]

LOAD = "from kernels.native.library import load_libraries; print(*(each.target for each in load_libraries()))"


def build_wheel(folder: Path, **environment: str) -> zipfile.ZipFile:
    script = f"import hatchling.build as build; build.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.mark.slow
def test_a_wheel_has_the_kernels_of_all_kinds_of_cpus(tmp_path: Path) -> None:
    with build_wheel(tmp_path, PATH="/usr/bin:/bin") as wheel:
        libraries = {Path(name).name for name in wheel.namelist() if name.endswith(".so")}
        assert libraries == {target.file_name for target in native_targets()}
        assert "-py3-none-manylinux" in str(wheel.filename)
        wheel.extractall(tmp_path / "installed")
    alone = {"PATH": "", "PYTHONPATH": str(tmp_path / "installed"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", LOAD]
    loaded = subprocess.run(command, cwd=tmp_path, env=alone, check=True, capture_output=True, text=True)
    has = torch.cpu.get_capabilities()
    usable = {name for name, needs in INSTRUCTIONS.items() if all(map(has.get, needs.values()))}
    assert usable.intersection(loaded.stdout.split())
    assert not (tmp_path / "cache").exists()  # nothing was compiled


def test_without_a_compiler_it_is_for_all_platforms(tmp_path: Path) -> None:
    with build_wheel(tmp_path, PATH="") as wheel:
        assert not [name for name in wheel.namelist() if name.endswith(".so")]
        assert str(wheel.filename).endswith("-py3-none-any.whl")
