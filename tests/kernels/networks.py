"""Small random networks of every kind."""

from dataclasses import replace
from pathlib import Path

import torch

from model.checkpoint import Checkpoint, save_checkpoint
from model.config import GeneratorConfig
from model.generator import Generator

TINY = GeneratorConfig(16, z_dim=16, w_dim=24, mapping_layers=2, channel_base=256, channel_max=32)

WIDE = "paper's widths"
"""The variant that takes the interpreter longest. Its pixels have as many features as those of narrow networks."""

VARIANTS: dict[str, GeneratorConfig] = {
    "plain": TINY,
    "two blocks": replace(TINY, resolution=8),
    "thickness 1": replace(TINY, thickness=1),
    "thickness 5": replace(TINY, thickness=5),
    "no decoders": replace(TINY, decoders=False),
    "last fusion": replace(TINY, fusion="last"),
    "last fusion, no decoders": replace(TINY, fusion="last", decoders=False),
    "conditional": replace(TINY, classes=3),
    WIDE: GeneratorConfig(8, z_dim=64, w_dim=64, mapping_layers=2),
}


def random_network(config: GeneratorConfig, seed: int = 0, frequencies: float = 1.0) -> Generator:
    """A network as initialised, but with biases and mean style that are not zero, and most of its picture in range.

    ``frequencies`` scales the input's frequencies: 0.1 makes a smooth picture.
    """
    torch.manual_seed(seed)
    generator = Generator(config).eval().requires_grad_(False)
    for name, parameter in generator.named_parameters():
        if name.endswith("bias"):
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    generator.mapping.w_avg.normal_()
    synthesis = generator.synthesis
    synthesis.input.frequencies.mul_(frequencies)
    labels = torch.eye(config.classes)[torch.zeros(8, dtype=torch.long)] if config.classes else None
    positions = torch.linspace(0, 1, min(config.resolution, 64), dtype=torch.float64)
    ws = generator.mapping.truncate(generator.mapping(torch.randn(8, config.z_dim), labels), config.num_ws)
    images = synthesis(ws, positions, positions)
    scale = 1 / (2 * images.std(dim=(0, 2, 3)).mean())
    for name, parameter in synthesis.named_parameters():
        if "to_rgb" in name and "affine" not in name:
            parameter.mul_(scale)
    synthesis.to_rgb.bias.sub_(images.mean(dim=(0, 2, 3)) * scale)
    return generator


def contrasty(factor: float) -> Generator:
    """Colours, and so every error of them, ``factor`` times as large."""
    generator = random_network(TINY)
    for name, parameter in generator.synthesis.named_parameters():
        if "to_rgb" in name and "affine" not in name:
            parameter.mul_(factor)
    return generator


def random_checkpoint(
    folder: Path, config: GeneratorConfig = TINY, seed: int = 0, frequencies: float = 1.0
) -> Checkpoint:
    return save_checkpoint(folder / "random.safetensors", random_network(config, seed, frequencies))
