"""Everything that a run needs to go on where it stopped, in one object and one file."""

import copy
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
    """A run between two steps.

    Attributes:
        images, steps: what the run has seen; the number of pictures is also the place in the shuffled data.
        generator, discriminator, average: the networks, the last one being the averaged generator that is served.
        generator_optimizer, discriminator_optimizer: over the parameters that learn.
        augment_p: probability of ADA's changes, a scalar.
        sign_sum: mean signs of the verdicts on real pictures, summed since that probability was last adjusted, a
            scalar.
        path_length_mean: running mean of the path lengths, a scalar.
        random: source of all random numbers of the run, the same in every process.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.images = 0
        self.steps = 0
        with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
            torch.manual_seed(config.seed)
            networks = Generator(config.generator), new_discriminator(config)
        self.generator, self.discriminator = networks
        if device.type != "cpu":
            self.generator.to(device), self.discriminator.to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.frozen = [p for layer in self.discriminator.layers()[: config.freeze_d] for p in layer.parameters()]
        self.generator_optimizer = _adam(
            list(self.generator.parameters()),
            config.learning_rate,
            config.path_length_interval if config.path_length_weight else 1,
        )
        self.discriminator_optimizer = _adam(
            self.learning_discriminator(), config.learning_rate, config.r1_interval if config.gamma else 1
        )
        self.augment_p = torch.zeros((), device=device)
        self.sign_sum = torch.zeros((), device=device)
        self.path_length_mean = torch.zeros((), device=device)
        self.random = torch.Generator(device).manual_seed(config.seed)

    def learning_discriminator(self) -> list[torch.nn.Parameter]:
        """The parameters of the discriminator that are not frozen."""
        frozen = set(map(id, self.frozen))
        return [parameter for parameter in self.discriminator.parameters() if id(parameter) not in frozen]

    def save(self, folder: Path) -> Path:
        """Writes ``state-<pictures>.pt`` without ever showing a half-written file, and removes all but the last two."""
        buffer = io.BytesIO()
        torch.save(self.to_dict(), buffer)
        path = folder / f"state-{self.images:09d}.pt"
        write_atomically(path, buffer.getvalue())
        for old in sorted(folder.glob(STATE_PATTERN))[:-KEPT_STATES]:
            old.unlink()
        return path

    def to_dict(self) -> dict[str, Any]:
        """All of the state as tensors, numbers and names, on the state's device."""
        values: dict[str, Any] = {name: part.state_dict() for name, part in self._parts()}
        values |= {name: getattr(self, name) for name in _SCALARS}
        return values | {"config": self.config.to_dict(), "random": self.random.get_state()}

    def restore(self, values: dict[str, Any]) -> None:
        """Takes over what :meth:`to_dict` gave."""
        for name, part in self._parts():
            part.load_state_dict(values[name])
        for name in _SCALARS:
            value = values[name]
            setattr(self, name, value.to(self.device) if isinstance(value, Tensor) else value)
        self.random.set_state(values["random"].cpu())

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for name in ("generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer"):
            yield name, getattr(self, name)


def read_newest(folder: Path, config: TrainingConfig) -> dict[str, Any] | None:
    """What the newest readable state of a folder holds, on the CPU; None where there is none.

    Raises:
        InputError: the run was begun with another recipe, or none of its states can be read.
    """
    paths = sorted(folder.glob(STATE_PATTERN), reverse=True)
    for path in paths:
        try:
            values = read_state(path)
        except InputError:
            continue
        _check_same_recipe(config, TrainingConfig.from_dict(values["config"]))
        return values
    if paths:
        raise InputError("outdir", f"{folder} holds {len(paths)} training states, none of which can be read")
    return None


def read_state(path: Path) -> dict[str, Any]:
    """What a state file holds, on the CPU. Nothing in it can run code.

    Raises:
        InputError: it is no training state, or damaged.
    """
    try:
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        missing = {"config", "generator", "average", "discriminator"} - set(values)
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, pickle.UnpicklingError):
        missing = {"everything"}
    if missing:
        raise InputError("state", f"{path} is not a training state, or it is damaged")
    return values


def new_discriminator(config: TrainingConfig) -> Discriminator:
    """The discriminator that a recipe asks for, with new weights."""
    return Discriminator(
        config.generator.resolution,
        config.discriminator_channel_base,
        config.discriminator_channel_max,
        config.generator.classes,
        config.minibatch_group,
    )


_SCALARS = ("images", "steps", "augment_p", "sign_sum", "path_length_mean")


def _adam(parameters: list[torch.nn.Parameter], learning_rate: float, interval: int) -> torch.optim.Adam:
    """Adam where a penalty has a step of its own at every so many steps; at every step it shares the loss's.

    Those rare steps come on top, so StyleGAN2 shrinks all of them, and β with them.
    """
    ratio = interval / (interval + 1) if interval > 1 else 1.0
    betas = (ADAM_BETAS[0] ** ratio, ADAM_BETAS[1] ** ratio)
    return torch.optim.Adam(parameters, lr=learning_rate * ratio, betas=betas, eps=ADAM_EPSILON)


_MAY_CHANGE = {"total_kimg", "snapshot_kimg", "log_kimg", "microbatch", "chunk_pixels", "compile"}


def _check_same_recipe(asked: TrainingConfig, begun: TrainingConfig) -> None:
    before, now = begun.to_dict(), asked.to_dict()
    for name in before:
        if name not in _MAY_CHANGE and before[name] != now[name]:
            raise InputError(name, f"the run was begun with {before[name]!r}, not {now[name]!r}; use another outdir")
