"""Converts an official CREPS pickle (generator, its moving average, discriminator) for further training."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.config import GeneratorConfig
from model.errors import InputError
from model.official.generator import DISCRIMINATOR, channel_base, convert_state_dict, read_networks, to_float32
from model.training.config import TrainingConfig
from model.training.state import new_discriminator, write_state

_LAST_LAYERS = {"conv": "b4.conv", "dense": "b4.fc", "out": "b4.out"}
"""Last layers of model/training/discriminator.py, and StyleGAN2's names of them."""


def import_networks(source: Path, destination: Path) -> GeneratorConfig:
    """Converts the official pickle ``source`` to a file for ``--transfer`` and returns the generator's config.

    No code of the pickle is run.

    Raises:
        InputError: ``source`` cannot be read, is not an official pickle, refers to anything that such a pickle does
            not need, or its networks are not a CREPS generator and a StyleGAN2 discriminator.
    """
    original = read_networks(source, "G", "G_ema", DISCRIMINATOR)
    config, generator_ema = convert_state_dict(original["G_ema"])
    _, generator = convert_state_dict(original["G"])
    training, discriminator = rename_discriminator(original[DISCRIMINATOR], config)
    networks = {"generator": generator, "average": generator_ema, "discriminator": discriminator}
    write_state(destination, {"config": training.to_dict(), **networks})
    return config


def rename_discriminator(
    official: Mapping[str, Tensor], generator: GeneratorConfig
) -> tuple[TrainingConfig, dict[str, Tensor]]:
    """A config with a discriminator of these shapes, and its tensors under this program's names.

    Raises:
        InputError: a tensor is missing, has a shape that does not fit the others, or is not finite.
    """
    blocks = generator.resolution.bit_length() - 3
    names = ["b4.conv.weight", *(f"b{8 << k}.conv0.weight" for k in range(blocks))]
    if missing := [name for name in names if name not in official or not official[name].ndim]:
        raise InputError("source", f"the discriminator lacks tensor {missing[0]!r}")
    channels = [len(official[name]) for name in names]
    config = TrainingConfig(
        generator, discriminator_channel_base=channel_base(channels), discriminator_channel_max=max(channels)
    )
    with torch.device("meta"):
        expected = new_discriminator(config).state_dict()
    state = {}
    for name, meta in expected.items():
        official_name = _official_name(name, generator.resolution)
        tensor = official.get(official_name)
        if tensor is None:
            raise InputError("source", f"the discriminator lacks tensor {official_name!r}")
        state[name] = to_float32(f"{DISCRIMINATOR}.{official_name}", tensor, list(meta.shape))
    return config, state


def _official_name(name: str, resolution: int) -> str:
    """The official name of a tensor of model/training/discriminator.py."""
    first, rest = name.split(".", 1)
    if first == "blocks":
        index, layer, parameter = rest.split(".")
        return f"b{resolution >> int(index)}.{'skip' if layer == 'shortcut' else layer}.{parameter}"
    if first == "classes":
        return "mapping." + rest.replace("layers.", "fc")
    return f"b{resolution}.fromrgb.{rest}" if first == "from_rgb" else f"{_LAST_LAYERS[first]}.{rest}"
