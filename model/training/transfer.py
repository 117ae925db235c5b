"""Beginning with trained networks: from a checkpoint, which has the generator, or a training state, which has all.

A CREPS network draws a function of position, so it goes on learning at another resolution with all of its weights: only
the positions are others, twice as many for pictures twice as large (as the source goes from 512² to 1024² for MetFaces
and AFHQ-Dog). The discriminator reads pixels: of a larger one the new blocks begin anew, the others keep what they
know.
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


class Source:
    """Trained networks to begin with.

    Attributes:
        path: the checkpoint (.safetensors) or training state (.pt).
        config: the generator's shape.

    Raises:
        InputError: the file is neither, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state: dict[str, Any] | None = None
        if path.suffix == SUFFIX:
            self.config = Checkpoint.open(path).config
        else:
            self._state = read_state(path)
            self.config = TrainingConfig.from_dict(self._state["config"]).generator

    @property
    def has_discriminator(self) -> bool:
        return self._state is not None

    def generator_at(self, resolution: int) -> GeneratorConfig:
        """The generator's shape when it learns from pictures of another resolution: its blocks stay."""
        last = self.config.block_resolutions[-1]
        return replace(self.config, resolution=resolution, last_block=None if last == resolution else last)

    def check(self, config: TrainingConfig) -> None:
        """Raises InputError where a recipe asks for networks of another shape, or freezes what was not transferred."""
        before, now = (c.to_dict() for c in (self.generator_at(config.generator.resolution), config.generator))
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                raise InputError(
                    "transfer", f"{self.path} has {name} {before.get(name)!r}, and the recipe {now.get(name)!r}"
                )
        if config.freeze_d and not self.has_discriminator:
            raise InputError(
                "freeze_d", f"{self.path} has no discriminator; the training state of its run (state-….pt) has one"
            )

    def load(self, state: TrainingState) -> None:
        """Puts the trained weights into the networks of a new run."""
        if self._state is None:
            generator = average = Checkpoint.open(self.path).load().state_dict()
        else:
            generator, average = self._state["generator"], self._state["average"]
            _load_discriminator(state.discriminator, self._state["discriminator"], state.config)
        state.generator.load_state_dict(generator)
        state.average.load_state_dict(average)


@torch.no_grad()
def _load_discriminator(discriminator: nn.Module, trained: dict[str, Tensor], config: TrainingConfig) -> None:
    """Copies the blocks that both have, matched by the resolution that they work at: from the last one back."""
    blocks = [int(name.split(".")[1]) for name in trained if name.startswith("blocks.")]
    shift = config.generator.resolution.bit_length() - 4 - max(blocks, default=-1)  # blocks more than the trained one
    parameters = discriminator.state_dict()
    for name, tensor in trained.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1] = str(int(parts[1]) + shift)
        elif parts[0] == "from_rgb" and shift:
            continue  # it read pictures of another resolution
        target = parameters.get(".".join(parts))
        if target is None:
            continue  # of a block that this smaller discriminator does not have
        if target.shape != tensor.shape:
            found, wanted = tuple(tensor.shape), tuple(target.shape)
            raise InputError(
                "transfer", f"the trained discriminator's {name} is {found}, the recipe's {wanted}; "
                "compare discriminator_channel_base and discriminator_channel_max"
            )  # fmt: skip
        target.copy_(tensor)
