"""Transfer learning from checkpoints, training states and imported official networks, at other resolutions."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint, save_checkpoint
from model.errors import InputError
from model.generator import Generator
from model.latents.latent import Latent
from model.spec import Encoding, RenderSpec
from model.training.config import TrainingConfig
from model.training.loop import train
from model.training.state import TrainingState, read_newest, read_state
from model.training.transfer import TransferSource
from model.viewport import Viewport
from service.cli import main
from tests.model.data.images import tiny_config, tiny_data, write_images

CPU = torch.device("cpu")


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run at 8²."""
    folder = tmp_path_factory.mktemp("trained")
    train(tiny_config(learning_rate=0.01, total_kimg=0.008), tiny_data(folder / "data"), folder / "run", CPU)
    return folder / "run"


def _at(resolution: int, source: TransferSource, **overrides: object) -> TrainingConfig:
    return replace(tiny_config(**overrides), generator=source.generator_at(resolution))


def test_a_checkpoint_goes_on_with_its_generator_and_a_state_with_all(run: Path) -> None:
    trained = read_state(run / "state-000000008.pt")
    for path in (run / "checkpoint-000000008.safetensors", run / "state-000000008.pt"):
        source = TransferSource(path)
        config = _at(8, source)
        source.check(config)
        state = TrainingState(config, CPU)
        source.load(state)
        generator = trained["generator" if source.has_discriminator else "average"]
        for name, tensor in state.generator.state_dict().items():
            assert torch.equal(tensor, generator[name])
        for name, tensor in state.generator_ema.state_dict().items():
            assert torch.equal(tensor, trained["average"][name])
        same = [
            torch.equal(tensor, trained["discriminator"][n]) for n, tensor in state.discriminator.state_dict().items()
        ]
        assert all(same) == source.has_discriminator
        assert source.has_discriminator or not any(same[::2])


def test_twice_the_resolution_keeps_the_blocks_and_the_image(run: Path, tmp_path: Path) -> None:
    """A network of 8² trained further at 16² starts with the same image, evaluated at twice as many positions."""
    source = TransferSource(run / "state-000000008.pt")
    config = _at(16, source, total_kimg=0.004)
    assert (config.generator.resolution, config.generator.last_block) == (16, 8)
    assert config.generator.blocks == 2
    state = TrainingState(config, CPU)
    source.load(state)
    z = torch.randn(2, 8)
    trained = Generator(source.config)
    trained.load_state_dict(read_state(run / "state-000000008.pt")["average"])
    w = trained.mapping(z)
    positions = torch.linspace(0, 1, 16, dtype=torch.float64)
    expected = trained.synthesis(trained.mapping.truncate(w, config.generator.num_ws), positions, positions)
    torch.testing.assert_close(state.generator_ema(z), expected)
    old, new = read_state(run / "state-000000008.pt")["discriminator"], state.discriminator.state_dict()
    assert torch.equal(new["blocks.1.conv0.weight"], old["blocks.0.conv0.weight"])
    assert torch.equal(new["out.weight"], old["out.weight"])
    path = train(config, tiny_data(tmp_path / "data", config), tmp_path / "run", CPU, transfer=source.path)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.config == config.generator
    spec = RenderSpec("m", Latent(seed=1), Viewport.resolve(16, 16, grid="corners"), Encoding("png"))
    with torch.no_grad():
        drawn = checkpoint.load()(torch.from_numpy(Latent(seed=1).sample_z(8)))
    levels = (drawn[0].permute(1, 2, 0).numpy() * 127.5 + 128).clip(0, 255)
    assert np.abs(Renderer(checkpoint, "cpu").render(spec).astype(float) - levels).max() <= 1.01


def test_frozen_layers_stay_and_the_others_learn(run: Path, tmp_path: Path) -> None:
    source = TransferSource(run / "state-000000008.pt")
    config = _at(8, source, freeze_d=3, total_kimg=0.008)
    state = TrainingState(config, CPU)
    source.load(state)
    before = {name: tensor.clone() for name, tensor in state.discriminator.state_dict().items()}
    train(config, tiny_data(tmp_path / "data"), tmp_path / "run", CPU, transfer=source.path)
    after = read_state(tmp_path / "run" / "state-000000008.pt")["discriminator"]
    kept = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    frozen = {
        f"{layer}.{part}" for layer in ("from_rgb", "blocks.0.conv0", "blocks.0.conv1") for part in ("weight", "bias")
    }
    assert kept == frozen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"w_dim": 16}, "transfer: .* w_dim 8, .* 16"),
        ({"thickness": 4}, "transfer: .* thickness 2, .* 4"),
        ({"classes": 3}, "transfer: .* classes 0, .* 3"),
        ({"resolution": 16, "last_block": None}, "transfer: .* last_block 8, .* None"),
    ],
)
def test_another_architecture_is_refused(run: Path, changes: dict[str, Any], message: str) -> None:
    config = tiny_config()
    with pytest.raises(InputError, match=message):
        TransferSource(run / "checkpoint-000000008.safetensors").check(
            replace(config, generator=replace(config.generator, **changes))
        )


def test_a_discriminator_of_another_width_and_freezing_a_new_one_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match=r"freeze_d: .* has no discriminator"):
        TransferSource(run / "checkpoint-000000008.safetensors").check(tiny_config(freeze_d=2))
    source = TransferSource(run / "state-000000008.pt")
    with pytest.raises(InputError, match="compare discriminator_channel_base"):
        source.load(TrainingState(_at(8, source, discriminator_channel_max=4), CPU))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"\x89PNG\r\n", r"state: .*a\.png is not a training state"),
        ("a.txt", b"hello", r"state: .*a\.txt is not a training state"),
        ("a.pkl", b"\x80\x04N.", r"transfer: .*a\.pkl is a pickle, which creps import .*a\.pkl NEW\.pt converts"),
        ("a.pt", b"\x80\x04N.", r"state: .*a\.pt is not a training state"),
        ("a.safetensors", b"hello", r"checkpoint: .*a\.safetensors is not a complete safetensors file"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        TransferSource(tmp_path / name)


def test_a_state_without_settings_is_refused(tmp_path: Path) -> None:
    configs: list[object] = [{}, [], 3]
    for config in configs:
        torch.save({"config": config, "generator": {}, "average": {}, "discriminator": {}}, tmp_path / "a.pt")
        with pytest.raises(InputError, match="is not a training state"):
            TransferSource(tmp_path / "a.pt")


def test_networks_without_their_optimizer_cannot_be_resumed(run: Path, tmp_path: Path) -> None:
    values = read_state(run / "state-000000008.pt")
    del values["generator_optimizer"]
    torch.save(values, tmp_path / "state-000000008.pt")
    with pytest.raises(InputError, match=r"has no generator_optimizer; start from it with --transfer"):
        read_newest(tmp_path, tiny_config())


def test_a_transferred_run_needs_neither_the_shape_nor_later_its_source(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.pt"
    shutil.copy(run / "state-000000008.pt", source)
    arguments = [
        "train", "--data", str(run.parent / "data"), "--outdir", str(tmp_path / "run"), "--preset", "tiny-32",
        "--resolution", "8", "--transfer", str(source), "--device", "cpu", "--metrics", "none", "--total-kimg",
    ]  # fmt: skip
    assert main([*arguments, "0.008"]) == 0
    first = Checkpoint.open(tmp_path / "run" / "checkpoint-000000008.safetensors")
    assert first.config == tiny_config().generator
    assert first.info["training"]["discriminator_channel_max"] == 8
    source.unlink()
    assert main([*arguments, "0.016"]) == 0
    assert Checkpoint.open(tmp_path / "run" / "checkpoint-000000016.safetensors").config == first.config


def test_the_command_takes_a_checkpoint_to_twice_its_resolution(tmp_path: Path) -> None:
    """A checkpoint as ``creps import`` writes it. ADA adapts faster and the EMA has no ramp-up."""
    torch.manual_seed(0)
    shape = tiny_config().generator
    save_checkpoint(tmp_path / "official.safetensors", Generator(shape), {"source": "original.pkl"})
    network = {name: value for name, value in shape.to_dict().items() if type(value) is int and name != "resolution"}
    arguments = [
        "train", "--data", str(write_images(tmp_path / "data", size=16)), "--outdir", str(tmp_path / "run"),
        "--preset", "tiny-32", "--resolution", "16", "--transfer", str(tmp_path / "official.safetensors"),
        "--total-kimg", "0.008", "--device", "cpu", "--metrics", "scale", "--metrics-count", "2",
        *(f"--{name.replace('_', '-')}={value}" for name, value in network.items()),
    ]  # fmt: skip
    assert main(arguments) == 0
    checkpoint = Checkpoint.open(tmp_path / "run" / "checkpoint-000000008.safetensors")
    assert (checkpoint.config.resolution, checkpoint.config.last_block) == (16, 8)
    training = checkpoint.info["training"]
    assert (training["ada_kimg"], training["ema_rampup"]) == (100.0, 0.0)
    assert training["gamma"] == pytest.approx(0.05 / 4)


def test_a_ladder_of_resolutions_keeps_blocks_and_frequencies(tmp_path: Path) -> None:
    """8² with the blocks of a 32² network, then 16², which draws the same images at first, then 32²."""
    source, frequencies = None, None
    for side in (8, 16, 32):
        arguments = [
            "train", "--data", str(write_images(tmp_path / f"{side}", size=side)), "--preset", "tiny-32",
            "--resolution", str(side), "--outdir", str(tmp_path / f"run{side}"), "--total-kimg", "0",
            "--device", "cpu", "--metrics", "none", "--channel-max", "8", "--discriminator-channel-max", "8",
        ]  # fmt: skip
        begin = ["--last-block", "32", "--bandwidth", "2"] if source is None else ["--transfer", str(source)]
        assert main([*arguments, *begin]) == 0
        checkpoint = Checkpoint.open(tmp_path / f"run{side}" / "checkpoint-000000000.safetensors")
        assert (checkpoint.config.blocks, checkpoint.config.bandwidth) == (4, 2.0)
        found = checkpoint.load().synthesis.input.frequencies
        assert frequencies is None or torch.equal(found, frequencies)
        source, frequencies = tmp_path / f"run{side}" / "state-000000000.pt", found
    assert checkpoint.config.last_block is None
    assert frequencies is not None
    assert frequencies.std().item() == pytest.approx(2.0, rel=0.4)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--bandwidth", "0"], r"bandwidth: must be a number from 0\.01 to 1000, not 0\.0"),
        (["--bandwidth", "nan"], r"bandwidth: must be a number"),
        (["--last-block", "24"], r"last_block: must be a power of two, not 24"),
        (["--last-block", "4"], r"last_block: must be an integer from 8 to 4096, not 4"),
    ],
)
def test_bandwidth_and_last_block_have_limits(
    option: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--preset", "tiny-32", "--dry-run", *option]) == 2
    assert re.search(message, capsys.readouterr().err)
