"""The network on a CPU's cores: blocks that stay in the cache, and layers fused with their activation.

Differs from model/generator.py, which it is tested against, in four ways:

* Channels are the last axis, so that one oneDNN call does a layer's matrix product, bias and leaky ReLU.
* The gain √2 that follows a leaky ReLU moves into the weights of the next layer. Per-pixel features are hence held as
  G/√2, and clamped to ±256/√2.
* The large line layers are not modulated: their inputs and outputs are scaled instead, so that one copy of their
  weights serves every latent.
* A block of 64×64 pixels goes through all layers at once. Its widest activation is 2 MiB.

One call uses one core where the calling thread does (kernels/threads.py).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from kernels.backend import layer_styles
from model.config import FEATURES
from model.generator import CLAMP, EPSILON, Block, Decoder, Dense, Generator, Modulated, Refinement
from model.spec import Latent

SQRT2 = math.sqrt(2.0)

# The operation behind torch.compile's fused layers: it saves two passes over the activations, and oneDNN's matrix
# product is twice as fast as MKL's on AMD's processors. Builds without oneDNN take torch's own layers.
_FUSED = hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Layer(NamedTuple):
    """weight [C_out, C_in] and bias [C_out], every gain included."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[…, C_in] → […, C_out]."""
        if _FUSED:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return fused
        return F.linear(x, self.weight, self.bias)

    def lrelu(self, x: Tensor) -> Tensor:
        """[…, C_in] → […, C_out], leaky ReLU of slope 0.2 applied, but not its gain."""
        if _FUSED:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "leaky_relu", [0.2], "")
            return fused
        return F.leaky_relu_(F.linear(x, self.weight, self.bias), 0.2)


class ScaledLayer(NamedTuple):
    """A modulated layer whose weight is left alone: d·lrelu(W·(s·x) + b/d) = lrelu(d·W·(s·x) + b), because d > 0.

    Attributes:
        layer: the weight as it is, and b/d.
        scale: s [C_in].
        gain: √2·d [C_out].
    """

    layer: Layer
    scale: Tensor
    gain: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[…, C_in] → […, C_out], activated and clamped. Overwrites x."""
        return self.layer.lrelu(x.mul_(self.scale)).mul_(self.gain).clamp_(-CLAMP, CLAMP)


@dataclass(frozen=True)
class Style:
    """What the network becomes under one latent.

    Attributes:
        inputs: factors [D, 1, C] of the Fourier features, for rows and for columns.
        blocks: for each block its layers and, but for the first block, its ToLine.
        refinements: for each refinement block its two layers and its ToRGB.
    """

    inputs: tuple[Tensor, Tensor]
    blocks: list[tuple[list[ScaledLayer], Layer | None]]
    refinements: list[tuple[Layer, Layer, Layer]]


class CpuBackend:
    """A generator whose gains have been folded into its weights."""

    name = "cpu"
    side = 64

    @torch.no_grad()
    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._config = generator.config
        synthesis = generator.synthesis
        self._frequencies = synthesis.input.frequencies.double().t().contiguous()[:, None, :]  # [D, 1, C/2]
        self._decoders = [[_dense(layer) for layer in cast(Decoder, decoder).layers] for decoder in synthesis.decoders]
        self._to_rgb = _dense(synthesis.to_rgb)

    @torch.no_grad()
    def style(self, latent: Latent) -> Style:
        synthesis = self._generator.synthesis
        ws = layer_styles(self._generator.config, self._generator.mapping, latent)
        factors = synthesis.input.weight * _affine(synthesis.input.affine, ws[:, 0]).view_as(synthesis.input.weight)
        factors = (factors / math.sqrt(factors.shape[0])).permute(1, 2, 0)[:, :, None].contiguous()  # [2, D, 1, C]
        return Style(
            inputs=(factors[0], factors[1]),
            # The first two blocks both begin at style 1 (model.generator.Synthesis.lines).
            blocks=[_block(block, ws[:, max(1, 2 * k - 1) :]) for k, block in enumerate(synthesis.blocks)],
            refinements=[_refinement(refinement, ws[:, -1]) for refinement in synthesis.refinements],
        )

    @torch.no_grad()
    def lines(self, style: Style, positions: NDArray[np.float64], axis: int) -> Tensor:
        # What is kept comes before the short-lived arrays in memory, so that they leave no holes behind.
        lines = torch.zeros(self._config.bundles, self._config.thickness, len(positions), FEATURES)
        x = self._fourier_features(positions).mul_(style.inputs[axis])  # [D, L, C]
        for i, (layers, to_line) in enumerate(style.blocks):
            for layer in layers:
                x = layer(x)
            if to_line is not None:
                k = min(i, self._config.bundles) - 1  # there is but one bundle where only the last product is used
                torch.add(lines[max(k - 1, 0)], to_line(x).clamp_(-CLAMP, CLAMP), out=lines[k])
        return lines.mul_(math.sqrt(0.5)).permute(0, 3, 2, 1)  # a view: pixels() reads [bundles, D, L, 32]

    @torch.no_grad()
    def pixels(self, style: Style, rows: Tensor, columns: Tensor) -> Tensor:
        rows = rows.permute(0, 3, 2, 1)[:, :, :, None] / SQRT2  # [bundles, D, H, 1, 32]
        columns = columns.permute(0, 3, 2, 1)[:, :, None]  # [bundles, D, 1, W, 32]
        g = torch.zeros(rows.shape[2], columns.shape[3], FEATURES)  # G/√2
        for k in range(self._config.bundles):
            for d in range(self._config.thickness):
                g.addcmul_(rows[k, d], columns[k, d])
            if self._decoders:
                for layer in self._decoders[k]:
                    g = layer.lrelu(g)
        rgb = self._to_rgb(g)
        for fc0, fc1, to_rgb in style.refinements:
            g = fc0.lrelu(g).clamp_(-CLAMP / SQRT2, CLAMP / SQRT2)
            g = fc1.lrelu(g).clamp_(-CLAMP / SQRT2, CLAMP / SQRT2)
            rgb += to_rgb(g).clamp_(-CLAMP, CLAMP)
        return rgb

    def _fourier_features(self, positions: NDArray[np.float64]) -> Tensor:
        """[L] → [D, L, C], as model.generator.FourierInput."""
        cycles = self._frequencies * torch.from_numpy(positions)[:, None]
        phase = ((cycles - cycles.floor()) * (2 * math.pi)).float()
        return torch.cat([phase.sin(), (phase + math.pi / 2).sin()], dim=2)


def _dense(dense: nn.Module) -> Layer:
    """A dense layer that reads features over √2."""
    dense = cast(Dense, dense)
    return Layer(dense.weight * (dense.weight_gain * SQRT2), dense.bias * dense.multiplier)


def _affine(affine: Dense, w: Tensor) -> Tensor:
    """The style [C] for w [1, w_dim]. Its weights are large: their gain is not applied to a copy of them."""
    return F.linear(w, affine.weight)[0] * affine.weight_gain + affine.bias * affine.multiplier


def _block(block: nn.Module, ws: Tensor) -> tuple[list[ScaledLayer], Layer | None]:
    block = cast(Block, block)
    if block.fc0 is None or block.to_line is None:
        return [_scaled(block.fc1, ws[:, 0])], None
    layers = [_scaled(block.fc0, ws[:, 0]), _scaled(block.fc1, ws[:, 1])]
    style = _affine(block.to_line.affine, ws[:, 2]) / math.sqrt(block.to_line.weight.shape[1])
    return layers, Layer(block.to_line.weight * style, block.to_line.bias)


def _scaled(layer: Modulated, w: Tensor) -> ScaledLayer:
    scale = _affine(layer.affine, w)
    # 64 rows at a time: a whole layer's modulated weight is a large array between small ones that are kept.
    squares = torch.cat([(rows * scale).square_().sum(dim=1) for rows in torch.split(layer.weight, 64)])
    demodulation = (squares + EPSILON).rsqrt()
    return ScaledLayer(Layer(layer.weight, layer.bias / demodulation), scale, demodulation * SQRT2)


def _refinement(refinement: nn.Module, w: Tensor) -> tuple[Layer, Layer, Layer]:
    refinement = cast(Refinement, refinement)
    layers = (refinement.fc0, refinement.fc1, refinement.to_rgb)
    fc0, fc1, to_rgb = (Layer(layer.modulated_weight(w)[0] * SQRT2, layer.bias) for layer in layers)
    return fc0, fc1, to_rgb
