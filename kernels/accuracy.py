"""Which arithmetic is precise enough for a checkpoint: its pixels against the readable network's in fp64.

How much fp16 errs depends on the network's conditioning, so it is measured when a checkpoint is loaded.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.backend import layer_styles
from model.config import GeneratorConfig
from model.generator import COLUMNS, ROWS, Generator
from model.spec import Latent

LATENTS = 4
SIDE = 32
"""4 · 32² = 4,096 pixels are measured."""

MAX_LEVELS = 1
MIN_PSNR = 60.0
"""Bounds of what is precise enough: levels of 255 in any channel, and dB. The original's own mix of fp32 and fp16
reaches 1 and about 80."""

PEAK = 2.0
"""Range of colours, −1 … 1, for the PSNR."""


@dataclass(frozen=True)
class Agreement:
    """How one arithmetic's colours agree with fp64's.

    Attributes:
        arithmetic: "fp16", "fp16×3" or "fp32".
        levels: largest difference of 8-bit pixels.
        differing: share of 8-bit values that differ at all.
        psnr: of the colours before they are quantised, in dB; 0 where some are not finite.
    """

    arithmetic: str
    levels: int
    differing: float
    psnr: float

    @property
    def suffices(self) -> bool:
        return self.levels <= MAX_LEVELS and self.psnr >= MIN_PSNR

    def __str__(self) -> str:
        return (
            f"{self.arithmetic}: at most {self.levels} of 255 levels from fp64, "
            f"{self.differing:.1%} differing, {self.psnr:.1f} dB"
        )


@dataclass(frozen=True)
class Probe:
    """A part of a picture: its latent, network coordinates [SIDE] of rows and columns, and colours [SIDE, SIDE, 3]."""

    latent: Latent
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    colours: Tensor


Draw = Callable[[Latent, NDArray[np.float64], NDArray[np.float64]], Tensor]
"""Colours [H, W, 3] of network coordinates [H] and [W]."""


@torch.no_grad()
def make_probes(generator: Generator) -> list[Probe]:
    """Pictures of several seeds and classes at ψ = 1, at positions spread over the whole square, in fp64."""
    synthesis = copy.deepcopy(generator.synthesis).double()
    device = generator.mapping.w_avg.device
    probes = []
    for latent, rows, columns in _places(generator.config):
        ws = layer_styles(generator.config, generator.mapping, latent).double()
        lines = [
            synthesis.lines(ws, torch.from_numpy(positions).to(device), axis)
            for positions, axis in ((rows, ROWS), (columns, COLUMNS))
        ]
        probes.append(Probe(latent, rows, columns, synthesis.pixels(ws, *lines)[0].permute(1, 2, 0)))
    return probes


def measure(arithmetic: str, draw: Draw, probes: list[Probe]) -> Agreement:
    """How what ``draw`` draws agrees with the probes."""
    found = torch.cat([draw(probe.latent, probe.rows, probe.columns).double().flatten() for probe in probes])
    expected = torch.cat([probe.colours.flatten() for probe in probes]).to(found.device)
    difference = (_levels(found) - _levels(expected)).abs()
    error = (found.clamp(-1, 1) - expected.clamp(-1, 1)).square().mean().item()
    psnr = 10 * math.log10(PEAK**2 / max(error, 1e-30)) if found.isfinite().all() else 0.0
    return Agreement(arithmetic, int(difference.max()), float((difference > 0).double().mean()), psnr)


def _places(config: GeneratorConfig) -> Iterator[tuple[Latent, NDArray[np.float64], NDArray[np.float64]]]:
    for i in range(LATENTS):
        latent = Latent(seed=i, class_index=i * config.classes // LATENTS if config.classes else None)
        # Other fractions of the spacing for each latent, and for rows and columns.
        rows = (np.arange(SIDE) + (i + 0.3) / LATENTS) / SIDE
        columns = (np.arange(SIDE) + (i + 0.7) / LATENTS) / SIDE
        yield latent, rows, columns


def _levels(colours: Tensor) -> Tensor:
    return (colours * 127.5 + 128).nan_to_num(nan=0.0).clamp(0, 255).floor()
