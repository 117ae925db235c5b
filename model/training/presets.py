"""Named training settings, and how settings follow from overridden ones."""

from dataclasses import dataclass, replace
from typing import Any

from model.config import PRESETS as GENERATORS
from model.training.config import TrainingConfig


@dataclass(frozen=True)
class Preset:
    """Training settings and their purpose."""

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
    "small-64": Preset(_SMALL_64, "64×64 on a CPU within hours"),
    "small-64-patches": Preset(
        replace(
            _SMALL_64,
            generator=replace(GENERATORS["small-64"], max_scale=4.0),
            patches=True,
            supersampling=2,
        ),
        "64×64 and patches of up to 256×256, on from small-64 with --transfer",
    ),
    "small-128": Preset(_SMALL_128, "128×128 on one GPU within a day"),
    "ffhq-128": Preset(
        replace(_FFHQ_512, generator=GENERATORS["creps-128"], batch=128, gamma=0.5, ema_kimg=40.0),
        "the paper's 128×128",
    ),
    "ffhq-512": Preset(_FFHQ_512, "the paper's 512×512"),
    "ffhq-512-patches": Preset(
        replace(_FFHQ_512, generator=replace(GENERATORS["creps-512"], max_scale=2.0), patches=True),
        "512×512 and patches of 1024×1024, on from ffhq-512 with --transfer",
    ),
    "ffhq-1024": Preset(
        replace(_FFHQ_512, generator=GENERATORS["creps-1024"], batch=8, gamma=32.0, ema_kimg=2.5),
        "the paper's 1024×1024; with --transfer also its MetFaces and AFHQ-Dog",
    ),
}
"""``ffhq-…`` are the settings of the CREPS paper (Nguyen et al. 2023): batch 128 and γ 0.5 at 128², 32 and 10 at 512²,
8 and 32 at 1024²; EMA half-life batch·10/32 kimg; ADA target 0.6; 25,000 kimg; mirrored; R1 every 16 steps, path length
every 4."""

TRANSFER_ADA_KIMG = 100.0
"""``ada_kimg`` with --transfer: a trained discriminator overfits sooner (as in the original)."""


def resolve(preset: str, training: dict[str, Any], network: dict[str, Any], transfer: bool = False) -> TrainingConfig:
    """The preset with overrides of TrainingConfig and GeneratorConfig, and with the settings that follow from them.

    Settings that are overridden themselves do not follow. γ is proportional to the square of the resolution (the
    original's rule of thumb) and the EMA's half-life to the batch. The R3GAN loss has its penalties at every step and
    no path length penalty (Huang et al. 2024). With transfer, ADA adapts faster and the EMA has no ramp-up.

    Raises:
        InputError: a value is out of range.
    """
    base = PRESETS[preset].config
    generator = replace(base.generator, **network)
    if generator.last_block == generator.resolution:  # the default
        generator = replace(generator, last_block=None)
    derived: dict[str, Any] = {
        "gamma": base.gamma * (generator.resolution / base.generator.resolution) ** 2,
        "ema_kimg": base.ema_kimg * training.get("batch", base.batch) / base.batch,
    }
    if training.get("loss", base.loss) == "r3gan":
        derived |= {"r1_interval": 1, "path_length_weight": 0.0}
    if transfer:
        derived |= {"ada_kimg": TRANSFER_ADA_KIMG, "ema_rampup": 0.0}
    return replace(base, generator=generator, **(derived | training))
