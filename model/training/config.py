"""Settings of a training run: one frozen dataclass; the command line can override every field."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from model.config import GeneratorConfig
from model.errors import InputError

Loss = Literal["stylegan2", "r3gan"]
Augmentation = Literal["none", "diffaugment", "ada"]
AdaKinds = Literal["bgc", "bg", "bc", "gc", "b", "g", "c"]
Precision = Literal["fp32", "bf16", "fp16"]

LAYERS_PER_BLOCK = 3
"""Layers of a residual block of the discriminator that count for ``freeze_d``."""


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines the result of a run. The defaults are the CREPS paper's settings for 512².

    Attributes:
        generator: the generator; its resolution is that of the data.
        batch: images in one optimizer step, over all processes.
        microbatch: images that a process computes at a time, with gradient accumulation; 0 for its whole share.
        loss: "stylegan2" is the non-saturating loss with R1, "r3gan" the relativistic loss with R1 and R2.
        gamma: weight γ of the gradient penalties R1 and R2.
        r1_interval: steps between gradient penalties (StyleGAN2's lazy regularization).
        path_length_weight: weight of the path length penalty; 0 disables it.
        path_length_interval: steps between path length penalties.
        learning_rate: of Adam with β = (0, 0.99), for both networks.
        discriminator_learning_rate: the same for the discriminator alone; 0 for ``learning_rate``.
        discriminator_channel_base, discriminator_channel_max: a layer at resolution r has min(base / r, max) channels.
        minibatch_group: images in a group of the minibatch standard deviation.
        freeze_d: number of discriminator layers, counted from the input, that keep their transferred weights.
        ema_kimg: half-life of the generator's moving average (EMA) in thousands of images.
        ema_rampup: upper bound of the half-life as a fraction of the images seen so far; 0 for none.
        augmentation: "ada" augments with a probability that follows the discriminator's overfitting, "diffaugment"
            always changes color, position and a part of every image.
        ada_target: the mean sign(D(real)) that "ada" aims at.
        ada_p: a fixed probability of "ada"; 0 lets it follow ``ada_target``.
        ada_kinds: what "ada" changes: b for pixel blitting (flips and rotations by 90°), g for geometry, c for color.
        ada_kimg: thousands of images in which ADA's probability can go from 0 to 1.
        mirror: also train on mirrored images.
        patches: also train on patches of larger images, of scales up to the network's ``max_scale``.
        whole: part of a batch with patches that is whole images.
        supersampling: most samples along each axis of a pixel that ``patches`` draws where it is larger than the finest
            detail. 2 takes a quarter of the time of 4 for whole images.
        precision: "bf16" runs synthesis and discriminator under autocast; "fp16" follows the original: the refinement,
            and the discriminator's four highest resolutions. Parameters and penalties stay fp32.
        chunk_pixels: pixels of a batch whose activations are kept; those of the others are recomputed in the backward
            pass. 0 keeps all.
        compile: torch.compile everything that is not differentiated twice.
        seed: of all random numbers.
        total_kimg: length of the run in thousands of real images shown to the discriminator.
        snapshot_kimg: interval of checkpoints, sample grids and states, in thousands of images.
        log_kimg: interval of log entries, in thousands of images.
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
    discriminator_learning_rate: float = 0.0
    discriminator_channel_base: int = 32768
    discriminator_channel_max: int = 512
    minibatch_group: int = 4
    freeze_d: int = 0
    ema_kimg: float = 10.0
    ema_rampup: float = 0.05
    augmentation: Augmentation = "ada"
    ada_target: float = 0.6
    ada_p: float = 0.0
    ada_kinds: AdaKinds = "bgc"
    ada_kimg: float = 500.0
    mirror: bool = True
    patches: bool = False
    whole: float = 0.5
    supersampling: int = 4
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
                raise InputError(name, f"must be from {low:.15g} to {high:.15g}, not {value}")
        kinds = {"loss": Loss, "augmentation": Augmentation, "ada_kinds": AdaKinds, "precision": Precision}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(name, f"must be one of {', '.join(get_args(kind))}, not {getattr(self, name)!r}")
        if self.freeze_d > self.discriminator_layers:
            raise InputError("freeze_d", f"must be at most {self.discriminator_layers}, not {self.freeze_d}")
        if self.patches and self.generator.max_scale == 1:
            raise InputError("max_scale", "must be above 1 for patches: 4 if images have four times the resolution")
        if not self.patches and self.generator.max_scale != 1:
            raise InputError("max_scale", "is for networks that are trained with patches")
        self.check_processes(1)

    @property
    def whole_images(self) -> int:
        """Images of a batch that are whole; the others are patches."""
        return round(self.whole * self.batch) if self.patches else self.batch

    @property
    def discriminator_layers(self) -> int:
        """Layers that can be frozen: the input layer, and three for each block above 4²."""
        return 1 + LAYERS_PER_BLOCK * (self.generator.resolution.bit_length() - 3)

    def check_processes(self, count: int) -> None:
        """Raises InputError if ``count`` processes cannot split the batch into whole minibatch groups."""
        if self.batch % count:
            raise InputError("batch", f"{self.batch} is not divisible by {count} processes")
        share = self.batch // count
        microbatch = self.microbatch or share
        if share % microbatch:
            raise InputError("microbatch", f"{microbatch} does not divide the {share} images of a process")
        if microbatch % min(microbatch, self.minibatch_group):
            name = "microbatch" if self.microbatch else "batch"
            raise InputError(name, f"{microbatch} is not a multiple of minibatch_group, {self.minibatch_group}")

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON-compatible values."""
        return {**asdict(self), "generator": self.generator.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """The config from the result of :meth:`to_dict`. Raises InputError for unknown names."""
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
    "discriminator_learning_rate": (0, 1.0),
    "discriminator_channel_base": (32, 1 << 20),
    "discriminator_channel_max": (1, 4096),
    "minibatch_group": (1, 256),
    "freeze_d": (0, 64),
    "ema_kimg": (0, 1e4),
    "ema_rampup": (0, 1),
    "whole": (0, 1),
    "supersampling": (1, 8),
    "ada_target": (0, 1),
    "ada_p": (0, 1),
    "ada_kimg": (0.001, 1e6),
    "chunk_pixels": (0, 1 << 40),
    "seed": (0, 2**32 - 1),
    "total_kimg": (0, 1e7),
    "snapshot_kimg": (0.001, 1e6),
    "log_kimg": (0.001, 1e6),
}
