"""The recipe of a training run: one frozen table, every value of which can be overridden on the command line."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from model.config import PRESETS as GENERATORS
from model.config import GeneratorConfig
from model.errors import InputError

Augmentation = Literal["none", "diffaugment"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a run computes.

    Attributes:
        generator: shape of the generator; its resolution is that of the data.
        batch: pictures in one optimiser step.
        gamma: weight γ of the R1 penalty. StyleGAN2-ADA's rule of thumb is 0.0002·R²/batch.
        learning_rate: of both networks' Adam, β = (0, 0.99).
        r1_interval: the penalty is computed at every so many steps (StyleGAN2's lazy regularisation).
        discriminator_channel_base, discriminator_channel_max: a layer at resolution r has min(base / r, max) channels.
        minibatch_group: pictures among which the minibatch deviation is measured.
        ema_kimg: half-life of the averaged generator in thousands of pictures.
        ema_rampup: the half-life is at most this part of the pictures seen, so that early averages are not stale.
        augmentation: "diffaugment" shows real and drawn pictures to the discriminator under random colour, shift and
            cut-out, which keeps small data sets from being memorised.
        mirror: also train on the pictures' mirror images.
        precision: "bf16" runs both networks under autocast; parameters and the penalty stay fp32.
        seed: of every random number.
        total_kimg: length of the run in thousands of pictures shown to the discriminator.
        snapshot_kimg: a checkpoint, a grid and the state are written at every so many thousand pictures.
        log_kimg: scalars are averaged over and written at every so many thousand pictures.
    """

    generator: GeneratorConfig
    batch: int = 32
    gamma: float = 1.0
    learning_rate: float = 0.002
    r1_interval: int = 16
    discriminator_channel_base: int = 32768
    discriminator_channel_max: int = 512
    minibatch_group: int = 4
    ema_kimg: float = 10.0
    ema_rampup: float = 0.05
    augmentation: Augmentation = "diffaugment"
    mirror: bool = True
    precision: Precision = "fp32"
    seed: int = 0
    total_kimg: float = 25_000.0
    snapshot_kimg: float = 50.0
    log_kimg: float = 1.0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(name, f"must be from {low:g} to {high:g}, not {value}")
        for name, kind in (("augmentation", Augmentation), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(name, f"must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")
        if self.batch % min(self.batch, self.minibatch_group):
            raise InputError("batch", f"must be a multiple of the minibatch group {self.minibatch_group}")

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """The recipe from :meth:`to_dict`'s values. Unknown names raise InputError."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError("config", f"unknown setting {unknown[0]!r}")
        return cls(**{**values, "generator": GeneratorConfig.from_dict(values["generator"])})


_LIMITS: dict[str, tuple[float, float]] = {
    "batch": (1, 4096),
    "gamma": (0, 1e4),
    "learning_rate": (1e-7, 1.0),
    "r1_interval": (1, 1024),
    "discriminator_channel_base": (32, 1 << 20),
    "discriminator_channel_max": (1, 4096),
    "minibatch_group": (1, 256),
    "ema_kimg": (0, 1e4),
    "ema_rampup": (0, 1),
    "seed": (0, 2**32 - 1),
    "total_kimg": (0, 1e7),
    "snapshot_kimg": (0.001, 1e6),
    "log_kimg": (0.001, 1e6),
}


@dataclass(frozen=True)
class Preset:
    """A recipe by name, and what it is for."""

    config: TrainingConfig
    purpose: str = field(default="")


PRESETS: dict[str, Preset] = {
    "tiny-32": Preset(
        TrainingConfig(
            GENERATORS["tiny-32"],
            batch=8,
            gamma=0.05,
            discriminator_channel_base=1024,
            discriminator_channel_max=64,
            ema_kimg=1.0,
            total_kimg=20.0,
            snapshot_kimg=5.0,
            log_kimg=0.25,
        ),
        "a first try within minutes, also without a GPU",
    ),
    "small-64": Preset(
        TrainingConfig(
            GENERATORS["small-64"],
            batch=8,
            gamma=0.1,
            learning_rate=0.0025,
            discriminator_channel_base=2048,
            discriminator_channel_max=256,
            ema_kimg=2.5,
            precision="bf16",
            total_kimg=1_000.0,
            snapshot_kimg=5.0,
            log_kimg=0.5,
        ),
        "64×64 on a CPU within hours; the bundled demo",
    ),
    "small-128": Preset(
        TrainingConfig(
            GENERATORS["small-128"],
            batch=32,
            gamma=0.5,
            discriminator_channel_base=16384,
            discriminator_channel_max=512,
            precision="bf16",
            total_kimg=5_000.0,
        ),
        "128×128 on one GPU within a day",
    ),
    "creps-128": Preset(
        TrainingConfig(GENERATORS["creps-128"], batch=128, gamma=0.5, ema_kimg=40.0), "the paper's 128×128"
    ),
    "creps-512": Preset(TrainingConfig(GENERATORS["creps-512"], batch=32, gamma=10.0), "the paper's 512×512"),
}
"""``creps-…`` have the source's values: batch 128 and γ 0.5 at 128², 32 and 10 at 512², EMA half-life batch·10/32."""
