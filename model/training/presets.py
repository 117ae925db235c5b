"""Recipes by name, and how a recipe's values follow from those that are overridden."""

from dataclasses import dataclass, replace
from typing import Any

from model.config import PRESETS as GENERATORS
from model.training.config import TrainingConfig


@dataclass(frozen=True)
class Preset:
    """A recipe, and what it is for."""

    config: TrainingConfig
    purpose: str


_TINY = TrainingConfig(
    GENERATORS["tiny-32"],
    batch=8,
    gamma=0.05,
    path_length_weight=0.0,
    discriminator_channel_base=1024,
    discriminator_channel_max=64,
    ema_kimg=1.0,
    augmentation="diffaugment",
    precision="fp32",
    total_kimg=20.0,
    snapshot_kimg=5.0,
    log_kimg=0.25,
)

_SMALL_64 = TrainingConfig(
    GENERATORS["small-64"],
    batch=8,
    gamma=0.1,
    path_length_weight=0.0,
    learning_rate=0.0025,
    discriminator_channel_base=2048,
    discriminator_channel_max=256,
    ema_kimg=2.5,
    augmentation="diffaugment",
    precision="bf16",
    total_kimg=1_000.0,
    snapshot_kimg=5.0,
    log_kimg=0.5,
)

_SMALL_128 = TrainingConfig(
    GENERATORS["small-128"],
    batch=32,
    gamma=0.5,
    discriminator_channel_base=16384,
    precision="bf16",
    total_kimg=5_000.0,
    snapshot_kimg=50.0,
    log_kimg=1.0,
)

_FFHQ_512 = TrainingConfig(GENERATORS["creps-512"])

PRESETS: dict[str, Preset] = {
    "tiny-32": Preset(_TINY, "a first try within minutes, also without a GPU"),
    "small-64": Preset(_SMALL_64, "64×64 on a CPU within hours; the bundled demo"),
    "small-128": Preset(_SMALL_128, "128×128 on one GPU within a day"),
    "ffhq-128": Preset(
        replace(_FFHQ_512, generator=GENERATORS["creps-128"], batch=128, gamma=0.5, ema_kimg=40.0),
        "the source's 128×128",
    ),
    "ffhq-512": Preset(_FFHQ_512, "the source's 512×512"),
    "ffhq-1024": Preset(
        replace(_FFHQ_512, generator=GENERATORS["creps-1024"], batch=8, gamma=32.0, ema_kimg=2.5),
        "the source's 1024×1024; with --transfer also its MetFaces and AFHQ-Dog",
    ),
}
"""``ffhq-…`` are the source's recipes (Nguyen et al. 2023): batch 128 and γ 0.5 at 128², 32 and 10 at 512², 8 and 32 at
1024²; EMA half-life batch·10/32 kimg; ADA towards 0.6; 25,000 kimg; mirrored; R1 at every 16th step, path length at
every 4th."""

TRANSFER_ADA_KIMG = 100.0
"""A transferred discriminator overfits sooner than a new one, so ADA answers faster (as the original does)."""


def resolve(preset: str, recipe: dict[str, Any], network: dict[str, Any], transfer: bool = False) -> TrainingConfig:
    """The preset with the values that the user gave, and those that follow from them.

    Of what is not given, γ follows the square of the resolution (the source's rule of thumb, which its own presets keep
    within a quarter), the EMA's half-life follows the batch, R3GAN's loss has its penalties at every step and no path
    length (Huang et al. 2024), and a transferred network has a fast ADA and an average that need not warm up.

    Args:
        recipe: values of TrainingConfig by name.
        network: values of GeneratorConfig by name.
        transfer: whether the run begins with trained networks.

    Raises:
        InputError: a value is out of its limits.
    """
    base = PRESETS[preset].config
    generator = replace(base.generator, **network)
    follows: dict[str, Any] = {
        "gamma": base.gamma * (generator.resolution / base.generator.resolution) ** 2,
        "ema_kimg": base.ema_kimg * recipe.get("batch", base.batch) / base.batch,
    }
    if recipe.get("loss", base.loss) == "r3gan":
        follows |= {"r1_interval": 1, "path_length_weight": 0.0}
    if transfer:
        follows |= {"ada_kimg": TRANSFER_ADA_KIMG, "ema_rampup": 0.0}
    return replace(base, generator=generator, **(follows | recipe))
