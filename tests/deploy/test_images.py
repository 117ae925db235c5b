"""The Dockerfiles. That the gateway's commands work is proved in test_gateway_alone.py, which runs them."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.images import ROOT, canonical, copy_context, run, run_commands

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(dockerfile: Path, instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", dockerfile.read_text().replace("\\\n", ""), flags=re.MULTILINE)


def test_both_images_are_here() -> None:
    assert [file.stem for file in DOCKERFILES] == ["gateway", "worker"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [linter, "--failure-threshold", "style", dockerfile],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_runs_as_a_numbered_user_and_is_checked(dockerfile: Path) -> None:
    assert instructions(dockerfile, "USER") == [
        "10001:10001"
    ]  # by number: Kubernetes cannot prove a name to be not root
    assert instructions(dockerfile, "ENTRYPOINT") == ['["creps"]']
    assert instructions(dockerfile, "CMD") == [f'["{dockerfile.stem}"]']
    assert len(instructions(dockerfile, "HEALTHCHECK")) == 1
    bases = instructions(dockerfile, "FROM")
    assert len(bases) == 3
    assert all(base.startswith("python:${PYTHON_VERSION}-slim-bookworm") for base in bases)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_is_labelled_with_the_program_s_version(dockerfile: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in instructions(dockerfile, "ARG")
    (labels,) = instructions(dockerfile, "LABEL")
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) == {
        *("title", "description", "licenses", "version", "revision")
    }


def test_a_gpu_worker_has_a_ptxas_without_hazards() -> None:
    """Its version must be at least 13.3. Triton ignores a path that does not exist."""
    worker = ROOT / "docker" / "worker.Dockerfile"
    (version,) = re.findall(r"^nvidia-cuda-nvcc==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert tuple(map(int, version)) >= (13, 3)
    (path,) = re.findall(r"TRITON_PTXAS_PATH=(\S+)", worker.read_text())
    (link,) = (command for command in instructions(worker, "RUN") if "nvidia-cuda-nvcc" in command)
    assert re.search(rf"ln -s /opt/creps/lib/\S+/nvidia/cu13/bin/ptxas {path};", link)


def test_a_worker_has_what_a_gateway_has_and_torch(tmp_path: Path) -> None:
    copy_context(tmp_path)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    required = {}
    for dockerfile in DOCKERFILES:
        command = run_commands(dockerfile)["dependencies"][0].partition("&&")[0]
        run(command, {}, tmp_path, environment)
        required[dockerfile.stem] = set((tmp_path / "requirements.txt").read_text().splitlines())
    assert required["gateway"] < required["worker"]
    assert "torch" in {canonical(requirement) for requirement in required["worker"] - required["gateway"]}
    pinned = {canonical(line) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {canonical(requirement) for requirement in required["worker"]} <= pinned
