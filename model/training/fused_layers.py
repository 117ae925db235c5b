"""The synthesis network of model/generator.py in fewer passes over its activations, for training.

The same parameters give the same images and gradients, up to rounding:

* Rows and columns go through the layers as one tensor, so that a style modulates each weight once.
* √2, the gain of the leaky ReLU, is part of weight and bias, and the bias part of the product.
* The demodulation 1 / √(Σ_i (W_oi s_i)² + ε) is the product of W² and s².
* The activation and its clamp work in place.

The result can be differentiated once. Axes are those of model/generator.py.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.config import CLAMP, EPSILON
from model.generator import (
    COLUMNS,
    ROWS,
    Block,
    Decoder,
    ModulatedLayer,
    ModulatedOutputLayer,
    PixelFullyConnectedLayer,
    Refinement,
    SynthesisNetwork,
)

GAIN = math.sqrt(2.0)
SLOPE = 0.2


def lines(synthesis: SynthesisNetwork, ws: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The line bundles of both axes, [N, bundles, 32, L, D] each, at positions [L], or [N, L] of each image."""
    inputs = [synthesis.input(positions, ws[:, 0], axis) for positions, axis in ((rows, ROWS), (columns, COLUMNS))]
    x = torch.stack(inputs, dim=2)  # [N, C, 2, L, D]
    shape = x.shape[2:]
    x = x.flatten(2)  # [N, C, 2·L·D]
    running: Tensor | None = None
    bundles = []
    for k, block in enumerate(cast(Iterable[Block], synthesis.blocks)):
        styles = ws[:, max(1, 2 * k - 1) :]
        if block.fc0 is None or block.to_line is None:
            x = _modulated(block.fc1, x, styles[:, 0])  # [N, C, 2·L·D]
            continue
        x = _modulated(block.fc1, _modulated(block.fc0, x, styles[:, 0]), styles[:, 1])  # [N, C_k, 2·L·D]
        addition = _output(block.to_line, x, styles[:, 2])  # [N, 32, 2·L·D]
        running = addition if running is None else running + addition
        bundles.append(running)
    kept = torch.stack(bundles[-synthesis.config.bundles :], dim=1) * math.sqrt(0.5)  # [N, bundles, 32, 2·L·D]
    row_lines, column_lines = kept.reshape(*kept.shape[:3], *shape).unbind(3)
    return row_lines, column_lines


def fuse(synthesis: SynthesisNetwork, rows: Tensor, columns: Tensor) -> Tensor:
    """As :meth:`SynthesisNetwork.fuse`: bundles [N, bundles, 32, H, D] and [N, bundles, 32, W, D] → [N, 32, P]."""
    g: Tensor | None = None
    for k in range(synthesis.config.bundles):
        product = (rows[:, k] @ columns[:, k].transpose(2, 3)).flatten(2)  # F_k [N, 32, P]
        g = product if g is None else g + product
        if synthesis.decoders:
            g = _decode(cast(Decoder, synthesis.decoders[k]), g)
    assert g is not None  # noqa: S101 - a network has at least one bundle
    return g


def refine(synthesis: SynthesisNetwork, g: Tensor, rgb: Tensor, w: Tensor) -> Tensor:
    """As :meth:`SynthesisNetwork.refine`: features [N, 32, P] and colours [N, 3, P] → [N, 3, P]."""
    for layer in cast(Iterable[Refinement], synthesis.refinements):
        g = _modulated(layer.fc1, _modulated(layer.fc0, g, w), w)  # [N, C, P]
        rgb = rgb + _output(layer.to_rgb, g, w)
    return rgb


def _modulated(layer: ModulatedLayer, x: Tensor, w: Tensor) -> Tensor:
    """As :class:`ModulatedLayer`: [N, C_in, P] → [N, C_out, P]."""
    style = layer.affine(w).to(layer.weight.dtype)  # [N, C_in]
    with torch.autocast(w.device.type, enabled=False):
        scale = GAIN * F.linear(style.square(), layer.weight.square(), torch.full_like(layer.bias, EPSILON)).rsqrt()
    weight = layer.weight * style[:, None, :] * scale[:, :, None]  # [N, C_out, C_in]
    y = torch.baddbmm((layer.bias * GAIN)[:, None], weight, x)
    if torch.compiler.is_compiling():  # the compiler saves the passes itself
        return F.leaky_relu(y, SLOPE).clamp(-CLAMP, CLAMP)
    result: Tensor = _ClampedLeakyReLU.apply(y)  # type: ignore[no-untyped-call]
    return result


def _output(layer: ModulatedOutputLayer, x: Tensor, w: Tensor) -> Tensor:
    """As :class:`ModulatedOutputLayer`: [N, C_in, P] → [N, C_out, P]."""
    return torch.baddbmm(layer.bias[:, None], layer.modulated_weight(w), x).clamp(-CLAMP, CLAMP)


def _decode(decoder: Decoder, g: Tensor) -> Tensor:
    """As :class:`Decoder`: [N, 32, P] → [N, 32, P]."""
    for layer in cast(Iterable[PixelFullyConnectedLayer], decoder.layers):
        weight = (layer.weight * (layer.weight_gain * GAIN)).expand(len(g), -1, -1)  # [N, C_out, C_in]
        bias = layer.bias * (layer.multiplier * GAIN)
        g = F.leaky_relu(torch.baddbmm(bias[:, None], weight, g), SLOPE, inplace=True)
    return g


class _ClampedLeakyReLU(torch.autograd.Function):
    """clamp(leaky ReLU(x), ±256) in place of x. The derivative follows from the result alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        F.hardtanh_(F.leaky_relu_(x, SLOPE), -CLAMP, CLAMP)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        gradient = torch.ops.aten.hardtanh_backward(gradient, y, -CLAMP, CLAMP)
        result: Tensor = torch.ops.aten.leaky_relu_backward(gradient, y, SLOPE, True)
        return result
