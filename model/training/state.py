"""Everything a run needs to resume, in one object and one file."""

import copy
import io
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.errors import InputError
from model.generator import Generator
from model.training.config import TrainingConfig
from model.training.discriminator import Discriminator
from model.util.files import write_atomically

KEPT_STATES = 2
"""The newest state and the one before it, in case the newest is damaged."""

ADAM_BETAS = (0.0, 0.99)
ADAM_EPSILON = 1e-8

_MODULES = {
    "generator": "generator",
    "discriminator": "discriminator",
    "average": "generator_ema",
    "generator_optimizer": "generator_optimizer",
    "discriminator_optimizer": "discriminator_optimizer",
}
"""Keys of the state file, and the attributes of TrainingState whose state_dict they hold."""

_VALUES = ("images", "steps", "augment_p", "sign_sum", "path_length_mean")
"""Keys of the state file that hold the attribute of the same name."""

_MAY_CHANGE = {"total_kimg", "snapshot_kimg", "log_kimg", "microbatch", "chunk_pixels", "compile"}
"""Settings that a resumed run may change without another result."""

_RECIPE = {
    *("gamma", "learning_rate", "discriminator_learning_rate", "ema_kimg", "ema_rampup"),
    *("precision", "augmentation", "ada_target", "ada_p", "ada_kinds", "ada_kimg", "whole", "supersampling"),
}
"""Settings that a resumed run may change with another result, which a line on stderr tells."""


class TrainingState:
    """A run between two steps.

    Attributes:
        images, steps: training progress; ``images`` is also the position in the shuffled data.
        generator_ema: moving average of the generator's weights, which checkpoints hold.
        generator_optimizer, discriminator_optimizer: Adam over the trainable parameters.
        augment_p: ADA's probability, a scalar.
        sign_sum: sum of sign(D(real)) since that probability was last adjusted, a scalar.
        path_length_mean: running mean of the path lengths, a scalar.
        scalars: what the log has collected since its last line; see :meth:`.metrics_log.MetricsLog.collected`.
        random: generator of all random numbers of the run; its state is the same in every process.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.images = 0
        self.steps = 0
        weights_seed, steps_seed = independent_seeds(config.seed)
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn on the CPU, the same for every device
            torch.manual_seed(weights_seed)
            self.generator = Generator(config.generator)
            self.discriminator = new_discriminator(config)
        if device.type != "cpu":
            self.generator.to(device)
            self.discriminator.to(device)
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator_optimizer = _adam(
            list(self.generator.parameters()),
            config.learning_rate,
            config.path_length_interval if config.path_length_weight else 1,
        )
        self.discriminator_optimizer = _adam(
            self.trainable_discriminator_parameters(),
            config.discriminator_learning_rate or config.learning_rate,
            config.r1_interval if config.gamma else 1,
        )
        self.augment_p = torch.full((), config.ada_p, device=device)
        self.sign_sum = torch.zeros((), device=device)
        self.path_length_mean = torch.zeros((), device=device)
        self.scalars: dict[str, Tensor] = {}
        self.random = torch.Generator(device).manual_seed(steps_seed)

    def trainable_discriminator_parameters(self) -> list[torch.nn.Parameter]:
        """The discriminator's parameters without those of frozen layers."""
        frozen_layers = self.discriminator.layers()[: self.config.freeze_d]
        frozen = {id(parameter) for layer in frozen_layers for parameter in layer.parameters()}
        return [parameter for parameter in self.discriminator.parameters() if id(parameter) not in frozen]

    def save(self, folder: Path) -> Path:
        """Writes ``state-<images>.pt`` atomically and deletes all but the last two states."""
        path = folder / f"state-{self.images:09d}.pt"
        write_state(path, self.to_dict())
        for old in list_states(folder)[KEPT_STATES:]:
            old.unlink()
        return path

    def to_dict(self) -> dict[str, Any]:
        """Content of a state file: tensors on the state's device, numbers and strings."""
        values: dict[str, Any] = {key: getattr(self, name).state_dict() for key, name in _MODULES.items()}
        values |= {key: getattr(self, key) for key in _VALUES}
        return values | {"config": self.config.to_dict(), "random": self.random.get_state(), "scalars": self.scalars}

    def restore(self, values: dict[str, Any]) -> None:
        """Sets the state from the result of :meth:`to_dict`, except what follows from the config: learning rates."""
        for key, name in _MODULES.items():
            content, target = values[key], getattr(self, name)
            if isinstance(target, torch.optim.Optimizer):
                content = content | {"param_groups": target.state_dict()["param_groups"]}
            target.load_state_dict(content)
        for key in _VALUES:
            value = values[key]
            setattr(self, key, value.to(self.device) if isinstance(value, Tensor) else value)
        if self.config.ada_p:
            self.augment_p.fill_(self.config.ada_p)
        self.scalars = values.get("scalars", {})  # states of earlier versions have none
        self.random.set_state(values["random"].cpu())


def independent_seeds(seed: int) -> tuple[int, int]:
    """Seeds of the initial weights and of the steps' random numbers.

    With one seed for both, the first latents would equal the first weights. The seeds also differ from small numbers
    such as the sample grids' seed.
    """
    weights, steps = np.random.SeedSequence(seed).generate_state(2).tolist()  # 32 bits, all that torch's CPU uses
    return weights, steps


def write_state(path: Path, values: dict[str, Any]) -> None:
    """Writes a state file atomically."""
    buffer = io.BytesIO()  # torch.save to a file itself ends with a RuntimeError if the disk is full
    torch.save(values, buffer)
    write_atomically(path, buffer.getvalue())


def list_states(folder: Path) -> list[Path]:
    """The state files that the folder's run has written, the newest first. Copies under other names are not its own."""
    states = [path for path in folder.glob("state-*.pt") if re.fullmatch(r"state-[0-9]+\.pt", path.name)]
    return sorted(states, key=lambda path: int(path.stem.removeprefix("state-")), reverse=True)


def read_newest(folder: Path, config: TrainingConfig) -> tuple[Path, dict[str, Any]] | None:
    """The newest readable state file of a folder and its content, on the CPU; None if there is no state file.

    Says on stderr which files cannot be read.

    Raises:
        InputError: the run was started with other settings, or its states are gone or cannot be read.
    """
    paths = list_states(folder)
    for path in paths:
        try:
            values = read_state(path)
        except InputError as error:
            print(f"{error.message}; trying the one before", file=sys.stderr)
            continue
        if missing := {*_MODULES, *_VALUES, "random"} - values.keys():
            raise InputError("outdir", f"{path} has no {min(missing)}; start from it with --transfer in another outdir")
        _check_same_config(config, TrainingConfig.from_dict(values["config"]))
        return path, values
    if paths:
        raise InputError("outdir", f"{folder} holds {len(paths)} training states, none of which can be read")
    if next(folder.glob("checkpoint-*.safetensors"), None) is not None:
        advice = "use another outdir, from a checkpoint with --transfer"
        raise InputError("outdir", f"{folder} holds checkpoints but no training state to resume from; {advice}")
    return None


def read_state(path: Path) -> dict[str, Any]:
    """Content of a state file, on the CPU. Loading it cannot run code.

    Raises:
        InputError: the file is not a training state, or it is damaged.
    """
    part = None
    try:
        with zipfile.ZipFile(path) as file:  # torch would read formats of its own past, and compares no checksums
            part = file.testzip()
        values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True) if part is None else {}
        complete = {"generator", "average", "discriminator"} <= set(values) and "generator" in values["config"]
    except Exception:  # torch raises errors of any type for a file that is damaged
        complete = False
    if not complete:
        why = "" if part is None else f": the checksum of its {part} differs"
        raise InputError("state", f"{path} is not a training state, or it is damaged{why}")
    return values


def new_discriminator(config: TrainingConfig) -> Discriminator:
    """A discriminator with random weights."""
    return Discriminator(
        config.generator.resolution,
        config.discriminator_channel_base,
        config.discriminator_channel_max,
        config.generator.classes,
        config.minibatch_group,
        config.patches,
    )


def _adam(parameters: list[torch.nn.Parameter], learning_rate: float, interval: int) -> torch.optim.Adam:
    """Adam, corrected for a penalty that takes a step of its own every ``interval`` steps.

    The penalty makes it interval + 1 updates per ``interval`` steps, so the learning rate λ becomes c·λ and β becomes
    β^c with c = interval / (interval + 1) (StyleGAN2, appendix B). At an interval of 1 the penalty shares the loss's
    step.
    """
    c = interval / (interval + 1) if interval > 1 else 1.0
    betas = (ADAM_BETAS[0] ** c, ADAM_BETAS[1] ** c)
    return torch.optim.Adam(parameters, lr=learning_rate * c, betas=betas, eps=ADAM_EPSILON)


def _check_same_config(config: TrainingConfig, started: TrainingConfig) -> None:
    before, now = started.to_dict(), config.to_dict()
    for name in before:
        if name in _MAY_CHANGE or before[name] == now[name]:
            continue
        if name in _RECIPE:
            print(f"{name} changes from {before[name]!r} to {now[name]!r}", file=sys.stderr)
        else:
            raise InputError(name, f"the run was started with {before[name]!r}, not {now[name]!r}; use another outdir")
