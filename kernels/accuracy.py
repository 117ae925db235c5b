"""Accuracy of a checkpoint's pixels in some arithmetic, compared with model/generator.py in fp64.

The error of fp16 depends on the conditioning of the network, so it is measured when a checkpoint is loaded.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from model.generator import COLUMNS, ROWS, Generator
from model.latents.latent import Latent
from model.latents.styles import layer_styles

LATENTS = 4
SIDE = 32
"""4 · 32² = 4,096 pixels are compared."""

MAX_LEVELS = 1
MIN_PSNR = 60.0
"""Limits of :attr:`AccuracyReport.passes`: levels of 255 in any channel, and dB. The original implementation, which
mixes fp32 and fp16, reaches 1 and about 80."""

PEAK = 2.0
"""Range of colours, −1 … 1, for PSNR."""


@dataclass(frozen=True)
class AccuracyReport:
    """Difference between the colours of one arithmetic and those of fp64.

    Attributes:
        arithmetic: "fp16", "fp16×3" or "fp32".
        levels: largest difference of 8-bit values.
        differing: share of 8-bit values that differ.
        psnr: PSNR of the colours before quantisation, in dB; 0 if some are not finite.
    """

    arithmetic: str
    levels: int
    differing: float
    psnr: float

    @property
    def passes(self) -> bool:
        return self.levels <= MAX_LEVELS and self.psnr >= MIN_PSNR

    def __str__(self) -> str:
        return (
            f"{self.arithmetic}: at most {self.levels} of 255 levels from fp64, "
            f"{self.differing:.1%} differing, {self.psnr:.1f} dB"
        )


@dataclass(frozen=True)
class Probe:
    """Part of an image: latent, network coordinates [SIDE] of rows and columns, and fp64 colours [SIDE, SIDE, 3]."""

    latent: Latent
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    colours: Tensor


ColourFn = Callable[[Latent, NDArray[np.float64], NDArray[np.float64]], Tensor]
"""Returns the colours [H, W, 3] of a latent at network coordinates [H] and [W]."""


@torch.no_grad()
def make_probes(generator: Generator) -> list[Probe]:
    """Probes of several seeds and classes at ψ = 1, at positions spread over the whole square."""
    device = generator.mapping.w_avg.device
    classes = generator.config.classes
    probes = []
    with _in_double(generator.synthesis):
        for i in range(LATENTS):
            latent = Latent(seed=i, class_index=i * classes // LATENTS if classes else None)
            # Different fractions of the spacing for each latent, and for rows and columns.
            rows = (np.arange(SIDE) + (i + 0.3) / LATENTS) / SIDE
            columns = (np.arange(SIDE) + (i + 0.7) / LATENTS) / SIDE
            ws = layer_styles(generator.config, generator.mapping, latent).double()  # [1, num_ws, w_dim]
            lines = [
                generator.synthesis.lines(ws, torch.from_numpy(positions).to(device), axis)
                for positions, axis in ((rows, ROWS), (columns, COLUMNS))
            ]
            probes.append(Probe(latent, rows, columns, generator.synthesis.pixels(ws, *lines)[0].permute(1, 2, 0)))
    return probes


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double()


@contextlib.contextmanager
def _in_double(network: nn.Module) -> Iterator[None]:
    """The network computes in fp64. Each tensor is converted when it is used: a copy would take twice the weights."""
    tensors = [
        (module, name)
        for module in network.modules()
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        if tensor.is_floating_point()
    ]
    for module, name in tensors:
        parametrize.register_parametrization(module, name, _Double(), unsafe=True)
    try:
        yield
    finally:
        for module, name in tensors:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)


def measure(arithmetic: str, colour_fn: ColourFn, probes: list[Probe]) -> AccuracyReport:
    """Compare the colours of ``colour_fn`` with the probes."""
    found = torch.cat([colour_fn(probe.latent, probe.rows, probe.columns).double().flatten() for probe in probes])
    expected = torch.cat([probe.colours.flatten() for probe in probes]).to(found.device)
    difference = (to_levels(found) - to_levels(expected)).abs()
    error = (found.clamp(-1, 1) - expected.clamp(-1, 1)).square().mean().item()
    psnr = 10 * math.log10(PEAK**2 / max(error, 1e-30)) if found.isfinite().all() else 0.0
    return AccuracyReport(arithmetic, int(difference.max()), float((difference > 0).double().mean()), psnr)


def to_levels(colours: Tensor) -> Tensor:
    """Colours −1 … 1 as 8-bit levels, truncated as by the kernels. NaN is 0."""
    return (colours * 127.5 + 128).nan_to_num(nan=0.0).clamp(0, 255).floor()
