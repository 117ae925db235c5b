"""Transfer learning from a checkpoint, which holds a generator, or a training state, which holds all networks.

A CREPS generator is a function of continuous positions, so all of its weights can be trained further at another
resolution; only the positions change. The paper goes from 512² to 1024² this way for MetFaces and AFHQ-Dog. The
discriminator works on pixels: at a higher resolution its additional blocks start from random weights.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint import SUFFIX, Checkpoint
from model.config import GeneratorConfig
from model.errors import InputError
from model.training.config import TrainingConfig
from model.training.state import TrainingState, read_state


class TransferSource:
    """Trained networks to start from.

    Attributes:
        path: the checkpoint (.safetensors) or training state (.pt).
        config: the generator's config.
        discriminator: the settings with the discriminator's shape, empty if there is none.

    Raises:
        InputError: the file is neither, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: dict[str, Any] | None = None
        self.discriminator: dict[str, Any] = {}
        if path.suffix == SUFFIX:
            self.config = Checkpoint.open(path).config
        elif path.suffix in (".pkl", ".pickle"):
            raise InputError("transfer", f"{path} is a pickle, which creps import {path} NEW.pt converts")
        else:
            self._state = read_state(path)
            training = TrainingConfig.from_dict(self._state["config"])
            self.config, self.discriminator = training.generator, discriminator_shape(training)

    @property
    def has_discriminator(self) -> bool:
        return self._state is not None

    def generator_at(self, resolution: int, max_scale: float = 1.0) -> GeneratorConfig:
        """The generator's config for training at another resolution, and with patches, with the same blocks."""
        last = self.config.block_resolutions[-1]
        last_block = None if last == resolution else last
        return replace(self.config, resolution=resolution, max_scale=max_scale, last_block=last_block)

    def check(self, config: TrainingConfig) -> None:
        """Raises InputError if ``config`` has another generator, or freezes layers of a new discriminator."""
        wanted = config.generator.to_dict()
        trained = self.generator_at(config.generator.resolution, config.generator.max_scale).to_dict()
        for name in {**trained, **wanted}:
            if trained.get(name) != wanted.get(name):
                raise InputError(
                    "transfer", f"{self.path} has {name} {trained.get(name)!r}, the config {wanted.get(name)!r}"
                )
        if config.freeze_d and not self.has_discriminator:
            raise InputError("freeze_d", f"{self.path} has no discriminator; a training state (state-….pt) has one")

    def load(self, state: TrainingState) -> None:
        """Copies the trained weights into the networks of a new run."""
        if self._state is None:
            generator = generator_ema = Checkpoint.open(self.path).load().state_dict()
        else:
            generator, generator_ema = self._state["generator"], self._state["average"]
            _load_discriminator(state.discriminator, self._state["discriminator"], state.config)
        state.generator.load_state_dict(generator)
        state.generator_ema.load_state_dict(generator_ema)


def discriminator_shape(config: TrainingConfig) -> dict[str, Any]:
    """The settings that determine the discriminator's tensors."""
    return {name: getattr(config, name) for name in ("discriminator_channel_base", "discriminator_channel_max")}


@torch.no_grad()
def _load_discriminator(discriminator: nn.Module, trained: dict[str, Tensor], config: TrainingConfig) -> None:
    """Copies the blocks that both discriminators have, matched by resolution, that is from the last one backwards."""
    blocks = [int(name.split(".")[1]) for name in trained if name.startswith("blocks.")]
    shift = config.generator.resolution.bit_length() - 4 - max(blocks, default=-1)  # additional blocks
    parameters = discriminator.state_dict()
    for name, tensor in trained.items():
        keys = name.split(".")
        if keys[0] == "blocks":
            keys[1] = str(int(keys[1]) + shift)
        elif keys[0] == "from_rgb" and shift:
            continue  # it belongs to the trained resolution
        target = parameters.get(".".join(keys))
        if target is None:
            continue  # belongs to a block of a higher resolution
        if target.shape != tensor.shape:
            raise InputError(
                "transfer",
                f"the trained discriminator's {name} is {tuple(tensor.shape)}, not {tuple(target.shape)}; "
                "compare discriminator_channel_base and discriminator_channel_max",
            )
        target.copy_(tensor)
