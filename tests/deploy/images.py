"""The images' build without Docker: a Dockerfile's RUN commands, run in folders that stand for the image's."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

FINAL = ""
"""The name of the last stage, which has none."""


def run_commands(dockerfile: Path) -> dict[str, list[str]]:
    """The shell commands of each stage's RUN instructions, in order, without mounts; the last stage is FINAL."""
    commands: dict[str, list[str]] = {}
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    for instruction, rest in re.findall(r"^([A-Z]+) (.*)$", text, flags=re.MULTILINE):
        if instruction == "FROM":
            stage = match.group(1) if (match := re.search(r" AS (\S+)$", rest)) else FINAL
            commands[stage] = []
        elif instruction == "RUN":
            commands[stage].append(re.sub(r"--mount=\S+ +", "", rest))
    return commands


def copy_context(destination: Path) -> None:
    """Copies what .dockerignore lets into an image."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in patterns, "only what is named is let in"
    for name in (pattern[1:] for pattern in patterns if pattern.startswith("!")):
        source, target = ROOT / name, destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def run(command: str, folders: Mapping[str, Path], cwd: Path, environment: Mapping[str, str]) -> None:
    """Runs a RUN instruction's command with other folders in place of the image's."""
    for inside, outside in folders.items():
        command = command.replace(inside, str(outside))
    done = subprocess.run(["sh", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def canonical(requirement: str) -> str:
    """The name of what is required, as indexes compare names."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
    return re.sub(r"[._-]+", "-", name).lower()
