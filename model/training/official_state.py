"""The networks of an original CREPS pickle, to train on with: generator, its moving average and discriminator."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from model.config import GeneratorConfig
from model.errors import InputError
from model.files import write_atomically
from model.importer import channel_base, check_settings, load_tensors, rename
from model.training.config import TrainingConfig
from model.training.state import new_discriminator
from model.unpickler import Module, read_pickle

_LAYERS = {"conv": "b4.conv", "dense": "b4.fc", "out": "b4.out"}
"""The last layers of model/training/discriminator.py, under the names of StyleGAN2's, which the original uses."""


def import_networks(source: Path, destination: Path) -> GeneratorConfig:
    """Writes the networks of the original pickle ``source`` as a file for ``--transfer``; runs no code of the pickle.

    Returns:
        The generator's shape.

    Raises:
        InputError: ``source`` cannot be read, is no original pickle, names anything that such a pickle does not need,
            or its networks are not a CREPS generator and a StyleGAN2 discriminator.
    """
    snapshot = read_pickle(source)
    limit = source.stat().st_size
    networks = {}
    for name in ("G", "G_ema", "D"):
        network = snapshot.get(name) if isinstance(snapshot, dict) else None
        if not isinstance(network, Module):
            raise InputError("source", f"{source} is a pickle, but holds no network {name!r}")
        networks[name] = load_tensors(network, limit)
        if name != "D":
            check_settings(network)
    config, average = rename(networks["G_ema"])
    _, generator = rename(networks["G"])
    recipe, discriminator = rename_discriminator(networks["D"], config)
    buffer = io.BytesIO()
    values = {"config": recipe.to_dict(), "generator": generator, "average": average, "discriminator": discriminator}
    torch.save(values, buffer)
    write_atomically(destination, buffer.getvalue())
    return config


def rename_discriminator(
    original: Mapping[str, Tensor], generator: GeneratorConfig
) -> tuple[TrainingConfig, dict[str, Tensor]]:
    """A recipe with a discriminator of these shapes, and its tensors under the names of this program.

    Raises:
        InputError: a tensor is missing, of another shape than the others ask for, or not finite.
    """
    blocks = generator.resolution.bit_length() - 3
    names = ["b4.conv.weight", *(f"b{8 << k}.conv0.weight" for k in range(blocks))]
    if missing := [name for name in names if name not in original or not original[name].ndim]:
        raise InputError("source", f"the discriminator lacks tensor {missing[0]!r}")
    channels = [len(original[name]) for name in names]
    recipe = TrainingConfig(
        generator, discriminator_channel_base=channel_base(channels), discriminator_channel_max=max(channels)
    )
    with torch.device("meta"):
        expected = new_discriminator(recipe).state_dict()
    state = {}
    for name, meta in expected.items():
        original_name = _original_name(name, generator.resolution)
        tensor = original.get(original_name)
        if tensor is None or tensor.shape != meta.shape or not tensor.is_floating_point():
            raise InputError("source", f"the discriminator's {original_name!r} is not {list(meta.shape)} numbers")
        state[name] = tensor.detach().to(torch.float32)
        if not state[name].isfinite().all():
            raise InputError("source", f"the discriminator's {original_name!r} holds values that are not finite")
    return recipe, state


def _original_name(name: str, resolution: int) -> str:
    """The original name of a tensor of model/training/discriminator.py."""
    first, rest = name.split(".", 1)
    if first == "blocks":
        index, layer, parameter = rest.split(".")
        return f"b{resolution >> int(index)}.{'skip' if layer == 'shortcut' else layer}.{parameter}"
    if first == "classes":
        return "mapping." + rest.replace("layers.", "fc")
    return f"b{resolution}.fromrgb.{rest}" if first == "from_rgb" else f"{_LAYERS[first]}.{rest}"
