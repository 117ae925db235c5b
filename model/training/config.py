"""The recipe of a training run: one frozen table, every value of which can be overridden on the command line."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from model.config import GeneratorConfig
from model.errors import InputError

Loss = Literal["stylegan2", "r3gan"]
Augmentation = Literal["none", "diffaugment", "ada"]
Precision = Literal["fp32", "bf16", "fp16"]

LAYERS_PER_BLOCK = 3
"""Layers of a residual block of the discriminator, as freezing counts them."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a run computes. The defaults are the source's recipe at 512².

    Attributes:
        generator: shape of the generator; its resolution is that of the data.
        batch: pictures in one optimiser step, over all processes.
        microbatch: pictures of a process in memory at a time, whose gradients add up; 0 for its whole share of the
            batch.
        loss: "stylegan2" is the non-saturating loss, "r3gan" the relativistic one with R1 and R2.
        gamma: weight γ of the gradient penalties R1 (and R2).
        r1_interval: the penalties are computed at every so many steps (StyleGAN2's lazy regularisation).
        path_length_weight: weight of the path length penalty; 0 leaves it out.
        path_length_interval: it is computed at every so many steps.
        learning_rate: of both networks' Adam, β = (0, 0.99).
        discriminator_channel_base, discriminator_channel_max: a layer at resolution r has min(base / r, max) channels.
        minibatch_group: pictures among which the minibatch deviation is measured.
        freeze_d: so many layers of the discriminator, from the picture on, keep their transferred weights.
        ema_kimg: half-life of the averaged generator in thousands of pictures.
        ema_rampup: the half-life is at most this part of the pictures seen, so that early averages are not stale;
            0 for no such bound.
        augmentation: "ada" shows the discriminator pictures changed with a probability that follows its overfitting,
            "diffaugment" always changes colour, place and a part of every picture.
        ada_target: mean sign of the discriminator's verdicts on real pictures that "ada" holds.
        ada_kimg: thousands of pictures in which the probability can go from 0 to 1.
        mirror: also train on the pictures' mirror images.
        precision: "bf16" runs synthesis and discriminator under autocast; "fp16" where the original does: the
            refinement, and the discriminator's four highest resolutions. Parameters and penalties stay fp32.
        chunk_pixels: pixels of a batch whose activations are kept at a time; those of the others are computed again
            when the gradient needs them. 0 keeps all.
        compile: torch.compile what is not differentiated twice.
        seed: of every random number.
        total_kimg: length of the run in thousands of pictures shown to the discriminator.
        snapshot_kimg: a checkpoint, grids and the state are written at every so many thousand pictures.
        log_kimg: scalars are averaged over and written at every so many thousand pictures.
    """

    generator: GeneratorConfig
    batch: int = 32
    microbatch: int = 0
    loss: Loss = "stylegan2"
    gamma: float = 10.0
    r1_interval: int = 16
    path_length_weight: float = 2.0
    path_length_interval: int = 4
    learning_rate: float = 0.002
    discriminator_channel_base: int = 32768
    discriminator_channel_max: int = 512
    minibatch_group: int = 4
    freeze_d: int = 0
    ema_kimg: float = 10.0
    ema_rampup: float = 0.05
    augmentation: Augmentation = "ada"
    ada_target: float = 0.6
    ada_kimg: float = 500.0
    mirror: bool = True
    precision: Precision = "fp16"
    chunk_pixels: int = 1 << 17
    compile: bool = False
    seed: int = 0
    total_kimg: float = 25_000.0
    snapshot_kimg: float = 200.0
    log_kimg: float = 4.0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(name, f"must be from {low:g} to {high:g}, not {value}")
        for name, kind in (("loss", Loss), ("augmentation", Augmentation), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(name, f"must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")
        if self.freeze_d > self.discriminator_layers:
            raise InputError("freeze_d", f"the discriminator has {self.discriminator_layers} layers that can be frozen")
        self.check_processes(1)

    @property
    def discriminator_layers(self) -> int:
        """Layers that can be frozen: the one that reads the picture, and three for each block above 4²."""
        return 1 + LAYERS_PER_BLOCK * (self.generator.resolution.bit_length() - 3)

    def check_processes(self, count: int) -> None:
        """Raises InputError where so many processes cannot share the batch without breaking its groups."""
        if self.batch % count:
            raise InputError("batch", f"{self.batch} cannot be shared equally by {count} processes")
        share = self.batch // count
        part = self.microbatch or share
        if share % part:
            raise InputError("microbatch", f"{part} does not divide the {share} pictures of a process")
        if part % min(part, self.minibatch_group):
            name = "microbatch" if self.microbatch else "batch"
            raise InputError(
                name, f"the {part} pictures in memory must be a multiple of minibatch_group, {self.minibatch_group}"
            )

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON-ready values."""
        return {**asdict(self), "generator": self.generator.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """The recipe from :meth:`to_dict`'s values. Unknown names raise InputError."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError("config", f"unknown setting {unknown[0]!r}")
        return cls(**{**values, "generator": GeneratorConfig.from_dict(values["generator"])})


_LIMITS: dict[str, tuple[float, float]] = {
    "batch": (1, 4096),
    "microbatch": (0, 4096),
    "gamma": (0, 1e4),
    "r1_interval": (1, 1024),
    "path_length_weight": (0, 1e4),
    "path_length_interval": (1, 1024),
    "learning_rate": (1e-7, 1.0),
    "discriminator_channel_base": (32, 1 << 20),
    "discriminator_channel_max": (1, 4096),
    "minibatch_group": (1, 256),
    "freeze_d": (0, 64),
    "ema_kimg": (0, 1e4),
    "ema_rampup": (0, 1),
    "ada_target": (0, 1),
    "ada_kimg": (0.001, 1e6),
    "chunk_pixels": (0, 1 << 40),
    "seed": (0, 2**32 - 1),
    "total_kimg": (0, 1e7),
    "snapshot_kimg": (0.001, 1e6),
    "log_kimg": (0.001, 1e6),
}
