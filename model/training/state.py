"""Everything that a run needs to go on where it stopped, in one object and one file."""

import copy
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from model.errors import InputError
from model.files import write_atomically
from model.generator import Generator
from model.training.config import TrainingConfig
from model.training.discriminator import Discriminator

STATE_PATTERN = "state-*.pt"
KEPT_STATES = 2
"""The newest state and the one before it, in case a disk fails the newest."""

ADAM_BETAS = (0.0, 0.99)
ADAM_EPSILON = 1e-8


class TrainingState:
    """Networks, optimisers, the averaged generator, the number of pictures seen and the random number generators."""

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device
        self.images = 0
        self.steps = 0
        self.generator = Generator(config.generator).to(device)
        self.discriminator = Discriminator(
            config.generator.resolution,
            config.discriminator_channel_base,
            config.discriminator_channel_max,
            config.generator.classes,
            config.minibatch_group,
        ).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_optimizer = _adam(self.generator, config.learning_rate)
        # One more step in every r1_interval steps: StyleGAN2 shrinks the step and β to make up for it.
        self.discriminator_optimizer = _adam(
            self.discriminator, config.learning_rate, config.r1_interval / (config.r1_interval + 1)
        )

    def save(self, folder: Path) -> Path:
        """Writes ``state-<pictures>.pt`` without ever showing a half-written file, and removes all but the last two."""
        buffer = io.BytesIO()
        torch.save(self._to_dict(), buffer)
        path = folder / f"state-{self.images:09d}.pt"
        write_atomically(path, buffer.getvalue())
        for old in sorted(folder.glob(STATE_PATTERN))[:-KEPT_STATES]:
            old.unlink()
        return path

    @classmethod
    def resume(cls, folder: Path, config: TrainingConfig, device: torch.device) -> "TrainingState | None":
        """The newest readable state of a folder, or None where there is none.

        Raises:
            InputError: the run was begun with another recipe, or none of its states can be read.
        """
        paths = sorted(folder.glob(STATE_PATTERN), reverse=True)
        for path in paths:
            try:
                values = torch.load(path, map_location=device, weights_only=True)
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
                continue
            _check_same_recipe(config, TrainingConfig.from_dict(values["config"]))
            state = cls(config, device)
            state._restore(values)
            return state
        if paths:
            raise InputError("outdir", f"{folder} holds {len(paths)} training states, none of which can be read")
        return None

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for name in ("generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer"):
            yield name, getattr(self, name)

    def _to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: part.state_dict() for name, part in self._parts()}
        values |= {"config": self.config.to_dict(), "images": self.images, "steps": self.steps}
        values["rng"] = torch.get_rng_state()
        if self.device.type == "cuda":
            values["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return values

    def _restore(self, values: dict[str, Any]) -> None:
        for name, part in self._parts():
            part.load_state_dict(values[name])
        self.images, self.steps = values["images"], values["steps"]
        torch.set_rng_state(values["rng"].cpu())
        if self.device.type == "cuda" and "cuda_rng" in values:
            torch.cuda.set_rng_state(values["cuda_rng"].cpu(), self.device)


def _adam(network: torch.nn.Module, learning_rate: float, ratio: float = 1.0) -> torch.optim.Adam:
    betas = (ADAM_BETAS[0] ** ratio, ADAM_BETAS[1] ** ratio)
    return torch.optim.Adam(network.parameters(), lr=learning_rate * ratio, betas=betas, eps=ADAM_EPSILON)


_MAY_CHANGE = {"total_kimg", "snapshot_kimg", "log_kimg"}


def _check_same_recipe(asked: TrainingConfig, begun: TrainingConfig) -> None:
    before, now = begun.to_dict(), asked.to_dict()
    for name in before:
        if name not in _MAY_CHANGE and before[name] != now[name]:
            raise InputError(name, f"the run was begun with {before[name]!r}, not {now[name]!r}; use another outdir")
