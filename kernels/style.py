"""What CPU backends prepare for a latent: layers with all gains folded in.

The gain √2 after a leaky ReLU is folded into the weights of the next layer. Per-pixel features are therefore stored as
G/√2 and clamped to ±256/√2. The large line layers are not modulated: their inputs and outputs are scaled instead, so
that all latents share one copy of the weights.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import EPSILON
from model.generator import Block, Decoder, FullyConnectedLayer, Generator, ModulatedLayer, Refinement
from model.latents.latent import Latent
from model.latents.styles import layer_styles

SQRT2 = math.sqrt(2.0)


class Layer(NamedTuple):
    """Weight [C_out, C_in] and bias [C_out]."""

    weight: Tensor
    bias: Tensor


class ScaledLayer(NamedTuple):
    """A modulated layer with unmodulated weights: d·lrelu(W·(s·x) + b/d) = lrelu(d·W·(s·x) + b), because d > 0.

    Attributes:
        layer: W and b/d.
        scale: s [C_in].
        gain: √2·d [C_out].
    """

    layer: Layer
    scale: Tensor
    gain: Tensor


class ScaledOutput(NamedTuple):
    """A ToLine with unmodulated weights: W·(s·x) + b, with s [C_in]."""

    layer: Layer
    scale: Tensor


@dataclass(frozen=True)
class Style:
    """The modulated layers of one latent.

    Attributes:
        inputs: factors [D, 1, C] of the Fourier features, for rows and for columns.
        blocks: the layers of each block and its ToLine (None in the first block).
        refinements: the two layers and the ToRGB of each refinement block.
    """

    inputs: tuple[Tensor, Tensor]
    blocks: list[tuple[list[ScaledLayer], ScaledOutput | None]]
    refinements: list[tuple[Layer, Layer, Layer]]


@torch.no_grad()
def compute_style(generator: Generator, latent: Latent) -> Style:
    """The modulated layers of a latent."""
    synthesis = generator.synthesis
    ws = layer_styles(generator.config, generator.mapping, latent)  # [1, num_ws, w_dim]
    factors = synthesis.input.weight * _affine(synthesis.input.affine, ws[:, 0]).view_as(synthesis.input.weight)
    # [C, 2, D] → [2, D, 1, C]
    factors = (factors / math.sqrt(factors.shape[0])).permute(1, 2, 0)[:, :, None].contiguous()
    return Style(
        inputs=(factors[0], factors[1]),
        # The first two blocks both start at style 1 (model.generator.SynthesisNetwork.lines).
        blocks=[_block(block, ws[:, max(1, 2 * k - 1) :]) for k, block in enumerate(synthesis.blocks)],
        refinements=[_refinement(refinement, ws[:, -1]) for refinement in synthesis.refinements],
    )


@torch.no_grad()
def decoder_layers(generator: Generator) -> list[list[Layer]]:
    """The layers of each decoder."""
    return [
        [fully_connected(layer) for layer in cast(Decoder, decoder).layers] for decoder in generator.synthesis.decoders
    ]


@torch.no_grad()
def fully_connected(layer: nn.Module) -> Layer:
    """A fully connected layer whose input is divided by √2."""
    layer = cast(FullyConnectedLayer, layer)
    return Layer(layer.weight * (layer.weight_gain * SQRT2), layer.bias * layer.multiplier)


def _affine(affine: FullyConnectedLayer, w: Tensor) -> Tensor:
    """The style [C] of w [1, w_dim]. The gain is applied to the product, to avoid a copy of the large weight."""
    return F.linear(w, affine.weight)[0] * affine.weight_gain + affine.bias * affine.multiplier


def _block(block: nn.Module, ws: Tensor) -> tuple[list[ScaledLayer], ScaledOutput | None]:
    block = cast(Block, block)
    if block.fc0 is None or block.to_line is None:
        return [_scaled(block.fc1, ws[:, 0])], None
    layers = [_scaled(block.fc0, ws[:, 0]), _scaled(block.fc1, ws[:, 1])]
    style = _affine(block.to_line.affine, ws[:, 2]) / math.sqrt(block.to_line.weight.shape[1])
    return layers, ScaledOutput(Layer(block.to_line.weight, block.to_line.bias), style)


def _scaled(layer: ModulatedLayer, w: Tensor) -> ScaledLayer:
    scale = _affine(layer.affine, w)
    # 64 rows at a time: the modulated weight of a whole layer would be a large array between small cached ones.
    squares = torch.cat([(rows * scale).square_().sum(dim=1) for rows in torch.split(layer.weight, 64)])
    demodulation = (squares + EPSILON).rsqrt()
    return ScaledLayer(Layer(layer.weight, layer.bias / demodulation), scale, demodulation * SQRT2)


def _refinement(refinement: nn.Module, w: Tensor) -> tuple[Layer, Layer, Layer]:
    refinement = cast(Refinement, refinement)
    layers = refinement.fc0, refinement.fc1, refinement.to_rgb
    fc0, fc1, to_rgb = (Layer(layer.modulated_weight(w)[0] * SQRT2, layer.bias) for layer in layers)
    return fc0, fc1, to_rgb
