"""Packages of npm that tests use."""

import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest


def npm_file(config: pytest.Config, package: str, version: str, name: str) -> Path:
    """A file of a package, in a folder of its own in pytest's cache. Skips the test where npm is missing or away."""
    folder = config.cache.mkdir(f"{package}-{version}")
    file = folder / Path(name).name
    if file.exists():
        return file
    if (npm := shutil.which("npm")) is None:
        pytest.skip(f"needs npm for {package}")
    command = [npm, "pack", "--silent", f"{package}@{version}"]
    packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if packed.returncode:
        pytest.skip(f"npm has no {package}: {packed.stderr.strip()[-200:]}")
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        content = archive.extractfile(f"package/{name}")
        assert content is not None
        file.write_bytes(content.read())
    return file


def npm_packages(config: pytest.Config, name: str, packages: Sequence[str]) -> Path:
    """The folder node_modules with packages, in pytest's cache. Skips the test where npm or node is missing or away."""
    folder = config.cache.mkdir(name)
    wanted, installed = "\n".join(packages), folder / "installed"
    if installed.exists() and installed.read_text() == wanted:
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip(f"needs npm and node for {name}")
    command = [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder), *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"npm has no {name}: {done.stderr.strip()[-200:]}")
    installed.write_text(wanted)
    return folder / "node_modules"
