"""Official networks for further training: from a pickle to a run that starts from them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.errors import InputError
from model.official.generator import convert_state_dict
from model.training.config import TrainingConfig
from model.training.official_state import import_networks
from model.training.state import TrainingState, new_discriminator, read_state
from model.training.transfer import TransferSource
from service.cli import main
from tests import original_pickle
from tests.golden_files import load
from tests.model.data.images import write_images

WHERE = {"from_rgb": "b32.fromrgb", "conv": "b4.conv", "dense": "b4.fc", "out": "b4.out"}


def _discriminator(config: TrainingConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random tensors for 32², under this program's names, and under those that StyleGAN2's discriminator gives them."""
    torch.manual_seed(1)
    ours, originals = new_discriminator(config).state_dict(), {}
    for name, tensor in ours.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            layer = {"conv0": "conv0", "conv1": "conv1", "shortcut": "skip"}[parts[2]]
            originals[f"b{32 // 2 ** int(parts[1])}.{layer}.{parts[3]}"] = tensor
        else:
            originals[f"{WHERE[parts[0]]}.{parts[1]}"] = tensor
    return ours, originals


def write_original(path: Path, discriminator: dict[str, Tensor] | None = None) -> Path:
    """A snapshot whose moving average is the golden generator of 32², and whose generator is twice that."""
    if discriminator is None:
        _, discriminator = _discriminator(_golden_config())
    golden = load("official_r32")
    kwargs: dict[str, object] = {name: golden.config[name] for name in ("z_dim", "w_dim") if name in golden.config}
    twice = {name: tensor * 2 for name, tensor in golden.state.items()}
    networks = {
        "G": original_pickle.build(twice, kwargs),
        "G_ema": original_pickle.build(golden.state, kwargs),
        "D": original_pickle.build(discriminator, {}),
    }
    path.write_bytes(original_pickle.dumps(networks))
    return path


def test_all_networks_of_an_original_go_on_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_path = tmp_path / "original.pt"
    shape = _golden_config()
    ours, originals = _discriminator(shape)
    source = write_original(tmp_path / "original.pkl", originals)
    assert main(["import", str(source), str(import_path)]) == 0
    assert "generator and discriminator" in capsys.readouterr().out
    state = TrainingState(shape, torch.device("cpu"))
    TransferSource(import_path).load(state)
    for name, tensor in state.discriminator.state_dict().items():
        assert torch.equal(tensor, ours[name]), name
    average = state.generator_ema.synthesis.to_rgb.weight
    torch.testing.assert_close(state.generator.synthesis.to_rgb.weight.detach(), 2 * average)
    generator = shape.generator.to_dict()
    arguments = [
        "train", "--preset", "tiny-32", "--data", str(write_images(tmp_path / "data", size=32)), "--device", "cpu",
        "--outdir", str(tmp_path / "run"), "--transfer", str(import_path), "--total-kimg", "0.008", "--freeze-d", "4",
        "--metrics", "none", "--discriminator-channel-base", "256", "--discriminator-channel-max", "16",
        *(f"--{name.replace('_', '-')}={value}" for name, value in generator.items() if type(value) is int),
    ]  # fmt: skip
    assert main(arguments) == 0
    after = read_state(tmp_path / "run" / "state-000000008.pt")["discriminator"]
    assert torch.equal(after["blocks.0.shortcut.weight"], ours["blocks.0.shortcut.weight"])
    assert not torch.equal(after["blocks.1.conv0.weight"], ours["blocks.1.conv0.weight"])


def _golden_config() -> TrainingConfig:
    config, _ = convert_state_dict(load("official_r32").state)
    return TrainingConfig(config, discriminator_channel_base=256, discriminator_channel_max=16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b16.conv1.weight": None}, r"lacks tensor 'b16\.conv1\.weight'"),
        ({"b8.conv0.weight": None}, r"lacks tensor 'b8\.conv0\.weight'"),
        ({"b4.fc.bias": torch.zeros(3)}, r"D\.b4\.fc\.bias' has shape \[3\], not \[16\]"),
        ({"b4.out.weight": torch.full((1, 16), torch.inf)}, "holds values that are not finite"),
    ],
)
def test_a_discriminator_of_another_make_is_refused(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    _, originals = _discriminator(_golden_config())
    changed = {name: tensor for name, tensor in (originals | change).items() if tensor is not None}
    with pytest.raises(InputError, match=message):
        import_networks(write_original(tmp_path / "original.pkl", changed), tmp_path / "original.pt")
    assert not (tmp_path / "original.pt").exists()


def test_a_pickle_without_a_discriminator_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(original_pickle.dumps({"G": None}))
    with pytest.raises(InputError, match="network 'G'"):
        import_networks(tmp_path / "a.pkl", tmp_path / "a.pt")
