"""Beginning with trained networks: from checkpoints, training states and imported originals, at other resolutions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kernels.renderer import Renderer
from model.checkpoint import Checkpoint, save_checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from model.generator import Generator
from model.spec import Encoding, Latent, RenderSpec
from model.training.config import TrainingConfig
from model.training.loop import train
from model.training.state import TrainingState, read_state
from model.training.transfer import Source
from model.viewport import Viewport
from service.cli import main
from tests.model.training.pictures import tiny_config, tiny_data, write_pictures

CPU = torch.device("cpu")


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run at 8²."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    train(tiny_config(learning_rate=0.01), tiny_data(folder / "data"), folder / "run", CPU)
    return folder / "run"


def _at(resolution: int, source: Source, **overrides: object) -> TrainingConfig:
    return replace(tiny_config(**overrides), generator=source.generator_at(resolution))


def test_a_checkpoint_goes_on_with_its_generator_and_a_state_with_all(run: Path) -> None:
    trained = read_state(run / "state-000000024.pt")
    for path in (run / "checkpoint-000000024.safetensors", run / "state-000000024.pt"):
        source = Source(path)
        config = _at(8, source)
        source.check(config)
        state = TrainingState(config, CPU)
        source.load(state)
        generator = trained["generator" if source.has_discriminator else "average"]
        for name, tensor in state.generator.state_dict().items():
            assert torch.equal(tensor, generator[name])
        for name, tensor in state.average.state_dict().items():
            assert torch.equal(tensor, trained["average"][name])
        same = [
            torch.equal(tensor, trained["discriminator"][n]) for n, tensor in state.discriminator.state_dict().items()
        ]
        assert all(same) == source.has_discriminator
        assert source.has_discriminator or not any(same[::2])


def test_twice_the_resolution_keeps_the_blocks_and_the_picture(run: Path, tmp_path: Path) -> None:
    """The network of 8² learns at 16², from a picture that is its old one, seen at twice as many positions."""
    source = Source(run / "state-000000024.pt")
    config = _at(16, source, total_kimg=0.004)
    assert (config.generator.resolution, config.generator.last_block) == (16, 8)
    assert config.generator.blocks == 2
    state = TrainingState(config, CPU)
    source.load(state)
    z = torch.randn(2, 8)
    trained = Generator(source.config)
    trained.load_state_dict(read_state(run / "state-000000024.pt")["average"])
    w = trained.mapping(z)
    positions = torch.linspace(0, 1, 16, dtype=torch.float64)
    expected = trained.synthesis(trained.mapping.truncate(w, config.generator.num_ws), positions, positions)
    torch.testing.assert_close(state.average(z), expected)
    old, new = read_state(run / "state-000000024.pt")["discriminator"], state.discriminator.state_dict()
    assert torch.equal(new["blocks.1.conv0.weight"], old["blocks.0.conv0.weight"])
    assert torch.equal(new["out.weight"], old["out.weight"])
    path = train(config, tiny_data(tmp_path / "data", config), tmp_path / "run", CPU, transfer=source.path)
    checkpoint = Checkpoint.open(path)
    assert checkpoint.config == config.generator
    spec = RenderSpec("m", Latent(seed=1), Viewport.resolve(16, 16, grid="corners"), Encoding("png"))
    with torch.no_grad():
        drawn = checkpoint.load()(torch.from_numpy(Latent(seed=1).draw_z(8)))
    levels = (drawn[0].permute(1, 2, 0).numpy() * 127.5 + 128).clip(0, 255)
    assert np.abs(Renderer(checkpoint, "cpu").render(spec).astype(float) - levels).max() <= 1.01


def test_frozen_layers_stay_and_the_others_learn(run: Path, tmp_path: Path) -> None:
    source = Source(run / "state-000000024.pt")
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
        ({"w_dim": 16}, "has w_dim 8, and the recipe 16"),
        ({"thickness": 4}, "has thickness 2, and the recipe 4"),
        ({"classes": 3}, "has classes 0, and the recipe 3"),
        ({"resolution": 16, "last_block": None}, "has last_block 8, and the recipe None"),
    ],
)
def test_another_architecture_is_refused(run: Path, changes: dict[str, Any], message: str) -> None:
    config = tiny_config()
    with pytest.raises(InputError, match=message):
        Source(run / "checkpoint-000000024.safetensors").check(
            replace(config, generator=replace(config.generator, **changes))
        )


def test_a_discriminator_of_another_width_and_freezing_a_new_one_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match=r"freeze_d: .* has no discriminator"):
        Source(run / "checkpoint-000000024.safetensors").check(tiny_config(freeze_d=2))
    source = Source(run / "state-000000024.pt")
    with pytest.raises(InputError, match="compare discriminator_channel_base"):
        source.load(TrainingState(_at(8, source, discriminator_channel_max=4), CPU))
    with pytest.raises(InputError, match="is not a training state"):
        Source(run / "grid-000000024.png")


def test_the_command_takes_an_original_onto_twice_its_resolution(tmp_path: Path) -> None:
    """A checkpoint as ``creps import`` writes it. ADA answers fast and the average does not warm up, as there."""
    torch.manual_seed(0)
    shape = GeneratorConfig(32, z_dim=64, w_dim=64, mapping_layers=2, channel_base=1024, channel_max=64)
    save_checkpoint(tmp_path / "original.safetensors", Generator(shape), {"source": "original.pkl"})
    arguments = [
        "train", "--data", str(write_pictures(tmp_path / "data", size=64)), "--outdir", str(tmp_path / "run"),
        "--preset", "tiny-32", "--resolution", "64", "--transfer", str(tmp_path / "original.safetensors"),
        "--total-kimg", "0.008", "--device", "cpu", "--metrics", "scale", "--metrics-count", "2",
    ]  # fmt: skip
    assert main(arguments) == 0
    checkpoint = Checkpoint.open(tmp_path / "run" / "checkpoint-000000008.safetensors")
    assert (checkpoint.config.resolution, checkpoint.config.last_block) == (64, 32)
    training = checkpoint.info["training"]
    assert (training["ada_kimg"], training["ema_rampup"]) == (100.0, 0.0)
    assert training["gamma"] == pytest.approx(4 * 0.05)
