"""CPU backend in torch: blocks that stay in the cache, and layers fused with their activation.

It is used where the native kernels cannot be compiled. It differs from model/generator.py in three ways:

* Channels are the last axis, so that one oneDNN call computes a layer's matrix product, bias and leaky ReLU.
* Layers have their gains folded in, and the large line layers are not modulated (kernels/style.py).
* A block of 64×64 pixels goes through all layers at once. Its widest activation is 2 MiB.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kernels.block_renderer import BlockBackend
from kernels.style import SQRT2, Layer, ScaledLayer, Style, compute_style, decoder_layers, fully_connected
from model.config import CLAMP, FEATURES
from model.generator import Generator
from model.latents.latent import Latent

# The operation behind torch.compile's fused layers. It saves two passes over the activations, and oneDNN's matrix
# product is twice as fast as MKL's on AMD processors. Builds of torch without oneDNN use ordinary layers.
_linear_pointwise: Callable[..., Tensor] = getattr(torch.ops.mkldnn, "_linear_pointwise", F.linear)
_FUSED = _linear_pointwise is not F.linear


class CpuBackend(BlockBackend[Style]):
    """Renders blocks of 64×64 pixels with a generator whose gains are folded into its weights."""

    name = "cpu"
    precision = "fp32"

    @torch.no_grad()
    def __init__(self, generator: Generator, threads: int | None = None) -> None:
        super().__init__(generator, torch.device("cpu"), side=64, threads=threads)
        self.arithmetic = f"fp32-torch-{torch.backends.cpu.get_cpu_capability().lower()}"
        frequencies = generator.synthesis.input.frequencies
        self._frequencies = frequencies.double().t().contiguous()[:, None, :]  # [D, 1, C/2]
        self._decoders = decoder_layers(generator)
        self._to_rgb = fully_connected(generator.synthesis.to_rgb)

    def style(self, latent: Latent) -> Style:
        return compute_style(self._generator, latent)

    @torch.no_grad()
    def block_lines(self, style: Style, positions: NDArray[np.float64], axis: int) -> Tensor:
        # Cached lines are allocated before the temporary arrays, to avoid fragmentation.
        lines = torch.zeros(self._config.bundles, self._config.thickness, len(positions), FEATURES)
        x = self._fourier_features(positions).mul_(style.inputs[axis])  # [D, L, C]
        for i, (layers, to_line) in enumerate(style.blocks):
            for layer in layers:
                x = _scaled(layer, x)  # [D, L, C]
            if to_line is not None:
                k = min(i, self._config.bundles) - 1  # a single bundle if fusion is "last"
                (weight, bias), scale = to_line
                addition = linear(Layer(weight * scale, bias), x).clamp_(-CLAMP, CLAMP)  # [D, L, 32]
                torch.add(lines[max(k - 1, 0)], addition, out=lines[k])
        return lines.mul_(math.sqrt(0.5)).permute(0, 3, 2, 1)  # [bundles, 32, L, D], a view

    @torch.no_grad()
    def block_colours(self, style: Style, rows: Tensor, columns: Tensor) -> Tensor:
        rows = rows.permute(0, 3, 2, 1)[:, :, :, None] / SQRT2  # [bundles, D, H, 1, 32]
        columns = columns.permute(0, 3, 2, 1)[:, :, None]  # [bundles, D, 1, W, 32]
        g = torch.zeros(rows.shape[2], columns.shape[3], FEATURES)  # G/√2
        for k in range(self._config.bundles):
            for d in range(rows.shape[1]):
                g.addcmul_(rows[k, d], columns[k, d])  # [H, W, 32]
            if self._decoders:
                for layer in self._decoders[k]:
                    g = linear_lrelu(layer, g)  # [H, W, 64], [H, W, 128], [H, W, 64], [H, W, 32]
        rgb = linear(self._to_rgb, g)  # [H, W, 3]
        for fc0, fc1, to_rgb in style.refinements:
            g = linear_lrelu(fc0, g).clamp_(-CLAMP / SQRT2, CLAMP / SQRT2)  # [H, W, 128], then [H, W, 64]
            g = linear_lrelu(fc1, g).clamp_(-CLAMP / SQRT2, CLAMP / SQRT2)  # [H, W, 128], then [H, W, 64]
            rgb += linear(to_rgb, g).clamp_(-CLAMP, CLAMP)  # [H, W, 3]
        return rgb

    def _fourier_features(self, positions: NDArray[np.float64]) -> Tensor:
        """[L] → [D, L, C], like model.generator.FourierInput."""
        cycles = self._frequencies * torch.from_numpy(positions)[:, None]  # [D, L, C/2]
        phase = ((cycles - cycles.floor()) * (2 * math.pi)).float()
        return torch.cat([phase.sin(), (phase + math.pi / 2).sin()], dim=2)


def linear(layer: Layer, x: Tensor) -> Tensor:
    """[…, C_in] → […, C_out]."""
    if _FUSED:
        return _linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return F.linear(x, layer.weight, layer.bias)


def linear_lrelu(layer: Layer, x: Tensor) -> Tensor:
    """[…, C_in] → […, C_out] with a leaky ReLU of slope 0.2, without its gain."""
    if _FUSED:
        return _linear_pointwise(x, layer.weight, layer.bias, "leaky_relu", [0.2], "")
    return F.leaky_relu_(F.linear(x, layer.weight, layer.bias), 0.2)


def _scaled(layer: ScaledLayer, x: Tensor) -> Tensor:
    """[…, C_in] → […, C_out], with activation and clamp. Overwrites x."""
    return linear_lrelu(layer.layer, x.mul_(layer.scale)).mul_(layer.gain).clamp_(-CLAMP, CLAMP)
