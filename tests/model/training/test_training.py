"""Training as a user runs it: it learns, it resumes exactly, it stops cleanly, it refuses what cannot work."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint import Checkpoint
from model.errors import InputError
from model.training.config import PRESETS, TrainingConfig
from model.training.loop import train
from model.training.reporting import draw_samples
from model.training.state import TrainingState
from service.cli import main
from tests.model.training.pictures import tiny_config, write_pictures, write_zip

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the networks are too small to share


def test_a_run_leaves_checkpoints_grids_state_and_metrics(tmp_path: Path) -> None:
    outdir = tmp_path / "run"
    checkpoint = train(tiny_config(), write_pictures(tmp_path / "data"), outdir, CPU, workers=0)
    assert checkpoint.name == "checkpoint-000000024.safetensors"
    names = {path.name for path in outdir.iterdir()}
    assert {"data.png", "grid-000000012.png", "grid-000000024.png", "state-000000012.pt", "metrics.jsonl"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    with Image.open(outdir / "grid-000000024.png") as grid:
        assert grid.size == (8 * 8, 6 * 8)
    lines = [json.loads(line) for line in (outdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.008, 0.016, 0.024]
    assert {"loss_generator", "loss_discriminator", "r1_penalty", "images_per_second"} <= set(lines[0])
    assert Checkpoint.open(checkpoint).info["images"] == 24


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data")
    whole = train(tiny_config(), data, tmp_path / "whole", CPU, workers=0)
    train(tiny_config(total_kimg=0.012), data, tmp_path / "parts", CPU, workers=0)
    torch.manual_seed(99)  # a new process has another random state
    parts = train(tiny_config(), data, tmp_path / "parts", CPU, workers=0)
    expected, resumed = (Checkpoint.open(path).load().state_dict() for path in (whole, parts))
    for name, tensor in expected.items():
        assert torch.equal(tensor, resumed[name]), name


def test_an_unreadable_state_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    data, outdir = write_pictures(tmp_path / "data"), tmp_path / "run"
    expected = train(tiny_config(), data, outdir, CPU, workers=0).read_bytes()
    newest = outdir / "state-000000024.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    (outdir / "checkpoint-000000024.safetensors").unlink()
    assert train(tiny_config(), data, outdir, CPU, workers=0).read_bytes() == expected
    for state in outdir.glob("state-*.pt"):
        state.write_bytes(b"")
    with pytest.raises(InputError, match="none of which can be read"):
        train(tiny_config(), data, outdir, CPU, workers=0)


def test_another_recipe_does_not_go_on_with_the_run(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data")
    train(tiny_config(), data, tmp_path / "run", CPU, workers=0)
    with pytest.raises(InputError, match=r"gamma: the run was begun with 0\.1, not 9"):
        train(tiny_config(gamma=9.0), data, tmp_path / "run", CPU, workers=0)


def test_it_learns(tmp_path: Path) -> None:
    """Pictures of one colour: after 150 steps the averaged generator draws that colour."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (200 + i, 60, 120)).save(folder / f"{i}.png")
    config = tiny_config(batch=8, learning_rate=0.005, total_kimg=1.2, snapshot_kimg=2.0, augmentation="none")
    path = train(config, folder, tmp_path / "run", CPU, workers=0)
    pictures = draw_samples(Checkpoint.open(path).load(), torch.randn(16, 8), None)
    assert np.abs(pictures.mean(axis=(0, 1, 2)) - [201.5, 60, 120]).max() < 25


def test_a_conditional_network_trains_on_labels(tmp_path: Path) -> None:
    labels = {f"{i:03d}.png": i % 2 for i in range(6)}
    data = write_zip(tmp_path / "a.zip", write_pictures(tmp_path / "data"), labels)
    config = tiny_config(learning_rate=0.01)
    config = replace(config, generator=replace(config.generator, classes=2))
    state = TrainingState(config, CPU)
    generator = Checkpoint.open(train(config, data, tmp_path / "run", CPU, workers=0)).load()
    embed = generator.mapping.embed
    assert embed is not None
    begun = state.generator.mapping.embed
    assert begun is not None
    assert (embed.weight - begun.weight).abs().min() > 0  # both classes' columns were trained
    z = torch.randn(4, 8)
    first, second = (generator(z, torch.eye(2)[[i] * 4]) for i in (0, 1))
    assert (first - second).abs().max() > 1e-3


def test_bf16_trains(tmp_path: Path) -> None:
    path = train(tiny_config(precision="bf16"), write_pictures(tmp_path / "data"), tmp_path / "run", CPU, workers=0)
    assert Checkpoint.open(path).load().config.resolution == 8


def test_sigterm_saves_and_ends(tmp_path: Path) -> None:
    """A second process takes the signal, and a third goes on where it stopped."""
    data, outdir = write_pictures(tmp_path / "data", size=32), tmp_path / "run"
    command = [
        sys.executable, "-m", "model.training", "--data", str(data), "--outdir", str(outdir),
        "--preset", "tiny-32", "--device", "cpu", "--snapshot-kimg", "1000", "--log-kimg", "0.008",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while not (outdir / "metrics.jsonl").exists() or not (outdir / "metrics.jsonl").read_text():
            assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGTERM)
        _, printed = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopped at" in printed
    (state,) = outdir.glob("state-*.pt")
    images = int(state.stem.removeprefix("state-"))
    assert (outdir / f"checkpoint-{images:09d}.safetensors").exists()
    finished = train(
        replace(PRESETS["tiny-32"].config, total_kimg=(images + 8) / 1000, snapshot_kimg=1000.0),
        data, outdir, CPU, workers=0,
    )  # fmt: skip
    assert finished.name == f"checkpoint-{images + 8:09d}.safetensors"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "batch: must be from 1"),
        (["--batch", "6"], "multiple of the minibatch group"),
        (["--gamma", "nan"], "gamma: must be from 0"),
        (["--resolution", "24"], "must be a power of two"),
        (["--resolution", "16"], "is 8×8, not 16×16"),
        (["--classes", "3", "--resolution", "8"], "has no classes"),
        (["--device", "tpu"], "device: must be auto"),
        (["--device", "cuda:99"], "device: cuda:99 is not there"),
        (["--preset", "huge"], "--preset"),
        (["--data", "nowhere"], "neither a folder nor a zip"),
    ],
)
def test_train_command_names_the_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    data = write_pictures(tmp_path / "data")
    try:
        status = main(
            ["train", "--data", str(data), "--outdir", str(tmp_path / "run"), "--preset", "tiny-32", *arguments]
        )
    except SystemExit as error:  # argparse's own way out
        status = int(error.code or 0)
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_presets_survive_their_own_dictionary() -> None:
    for preset in PRESETS.values():
        assert TrainingConfig.from_dict(json.loads(json.dumps(preset.config.to_dict()))) == preset.config
