"""Compilers of this machine, and what each of them makes of the kernels."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton

from kernels.first_run import ON_GPU

ROOT = Path(__file__).parents[2]


def first_line(*command: str, start: str = "") -> str | None:
    """The first line of a program's output that begins with ``start``; None if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return next((line.strip() for line in done.stdout.splitlines() if line.startswith(start) and line.strip()), None)


def find_ptxas() -> dict[str, str]:
    """Paths of all ptxas by version, the one that Triton uses first. The interpreter uses none."""
    if not ON_GPU:
        return {}
    from triton.backends.nvidia.compiler import get_ptxas

    wheels = Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/bin/ptxas")
    own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"  # unless TRITON_PTXAS_PATH is set
    others = [*map(str, (own, *wheels)), shutil.which("ptxas"), "/usr/local/cuda/bin/ptxas"]
    found: dict[str, str] = {}
    for path in (get_ptxas(architecture()).path, *others):
        version = path and first_line(path, "--version", start="Cuda compilation tools")
        if path and version:
            found.setdefault(version.removeprefix("Cuda compilation tools, "), path)
    return found


def architecture() -> int:
    """Compute capability of the GPU, 90 for 9.0."""
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def run_with_ptxas(ptxas: str, cache: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of this repository whose kernels this ptxas assembles, with a cache of its own."""
    names = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | dict.fromkeys(names, ptxas) | {"TRITON_CACHE_DIR": cache, "PYTHONPATH": path}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def compile_with(ptxas: str, preset: str) -> dict[str, Any]:
    """Registers, spills and hazards of every kernel, and the faults."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = f"--arch={architecture()}", f"--preset={preset}", f"--json={report}"
        done = run_with_ptxas(ptxas, folder, "kernels.benchmark", "compile", *options)
        if not report.exists():
            return {"error": done.stderr[-3000:]}
        kernels = json.loads(report.read_text())
    return {"passes": done.returncode == 0, "messages": done.stderr[-3000:], "kernels": kernels}
