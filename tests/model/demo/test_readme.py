"""The commands that rebuild the demo's data and train on it, as model/demo/README.md has them, with tiny networks."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from model.checkpoint import Checkpoint
from model.training import loop, sample_grids
from service.cli import main
from tests.documents import ROOT, blocks
from tests.model.demo.smileys import write_assets

README = ROOT / "model" / "demo" / "README.md"

SMALLER = {
    r"--count \d+": "--count 6",
    r"--total-kimg \S+": "--total-kimg 0.004",
    r"--batch \d+": "",
    r"--precision \S+": "",
    r"(--preset \S+)": r"\1 --thickness 2 --channel-base 64 --channel-max 8 --z-dim 8 --w-dim 8 --mapping-layers 1 "
    "--discriminator-channel-base 64 --discriminator-channel-max 8 --batch 4 --precision fp32 --metrics none",
}
"""What would take hours, and what replaces it."""


def _commands() -> list[str]:
    """From the composed images on: the package is there."""
    (block,) = (block for block in blocks(README) if "model.demo.compose" in block.text)
    commands = list(block.commands)
    first = next(i for i, command in enumerate(commands) if "model.demo.compose" in command)
    return commands[first:]


@pytest.mark.slow
def test_the_commands_lead_to_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("MAX_GRID", "MAX_LARGE_GRID"):
        monkeypatch.setattr(sample_grids, name, (1, 1))
    monkeypatch.setattr(loop, "plot_curves", lambda _: None)
    write_assets(Path("package", "assets"))
    for command in _commands():
        for large, small in SMALLER.items():
            command = re.sub(large, small, command)
        for state in re.findall(r"\S+/state-\d+\.pt", command):  # of the shorter run
            command = command.replace(state, str(max(Path(state).parent.glob("state-*.pt"))))
        program, *arguments = shlex.split(command)
        if program == "creps":
            assert main(arguments) == 0, command
        elif program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
    checkpoints = list(Path("runs").rglob("checkpoint-*.safetensors"))
    assert checkpoints
    assert all(Checkpoint.open(path).info["images"] for path in checkpoints)
