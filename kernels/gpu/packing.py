"""Packs a generator's weights for the GPU kernels: flat arrays, gains folded in, channels in the order of tensor cores.

Done once per checkpoint. ``kernels.gpu.jit.lines.modulate_kernel`` applies the styles of a latent.
"""

import math
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from kernels.gpu.jit.layers import COLOURS, GAIN
from kernels.gpu.jit.lines import ROW_FIELDS
from kernels.gpu.jit.products import CHANNEL_OF_COLUMN
from model.config import FEATURES, REFINEMENT_WIDTHS, RGB
from model.generator import (
    Block,
    Decoder,
    FullyConnectedLayer,
    Generator,
    ModulatedLayer,
    ModulatedOutputLayer,
    Refinement,
    normalize_second_moment,
)

REFINEMENT_SIZE = sum(a * b + b * c + c * COLOURS for a, b, c in REFINEMENT_WIDTHS)
"""Number of modulated weights of both refinement blocks, per part."""

_ALIGNMENT = 128
"""A layer's weights begin at a multiple of this number of elements, for wide loads."""


def split_parts(values: Tensor, parts: int) -> Tensor:
    """fp32 […] → fp16 [parts, …], whose sum over parts approximates the values."""
    high = values.half()
    return high[None] if parts == 1 else torch.stack([high, (values - high.float()).half()])


def lane_order(size: int) -> Tensor:
    """Indices [size] that sort a bias by lanes: output 8·j + 2·q + e by q, then j, then e."""
    return torch.arange(size).view(-1, 4, 2).transpose(0, 1).reshape(-1)


@dataclass(frozen=True)
class PixelWeights:
    """Weights of the pixels that do not depend on the latent.

    Attributes:
        weights: fp16 [parts, size]: each decoder's layers as [C_out, C_in], then to_rgb as [16, 32].
        biases: fp16, or fp32 for two parts: each decoder's layers, then those of both refinement blocks.
        colour_biases: fp32 [3, 16]: biases of to_rgb and of both ToRGB.
    """

    weights: Tensor
    biases: Tensor
    colour_biases: Tensor

    @classmethod
    def pack(cls, generator: Generator, parts: int) -> "PixelWeights":
        synthesis = generator.synthesis
        columns = torch.tensor(CHANNEL_OF_COLUMN, device=generator.mapping.w_avg.device)
        weights, biases = [], []
        for decoder in synthesis.decoders:
            layers = [cast(FullyConnectedLayer, layer) for layer in cast(Decoder, decoder).layers]
            for i, layer in enumerate(layers):
                weight, bias = layer.weight * (layer.weight_gain * GAIN), layer.bias * layer.multiplier
                if i == 0:
                    weight = weight[:, columns]
                if i == len(layers) - 1:
                    weight, bias = weight[columns], bias[columns]
                weights.append(weight)
                biases.append(bias)
        refinements = [cast(Refinement, refinement) for refinement in synthesis.refinements]
        for refinement in refinements:
            biases += [refinement.fc0.bias, refinement.fc1.bias]
        to_rgb = cast(FullyConnectedLayer, synthesis.to_rgb)
        weights.append(_pad_colours(to_rgb.weight[:, columns] * (to_rgb.weight_gain * GAIN)))
        colour_biases = [to_rgb.bias * to_rgb.multiplier, *(refinement.to_rgb.bias for refinement in refinements)]
        return cls(
            weights=split_parts(torch.cat([weight.flatten() for weight in weights]), parts),
            biases=torch.cat([bias[lane_order(len(bias))] for bias in biases]).to(
                torch.float16 if parts == 1 else torch.float32
            ),
            colour_biases=torch.stack([_pad_colours(bias) for bias in colour_biases]),
        )


@dataclass(frozen=True)
class MappingWeights:
    """The mapping network, with gains folded in.

    Attributes:
        weights: of each layer, fp32 [w_dim, C_in]. The first has only the inputs from z.
        biases: of each layer, fp32 [w_dim]; of the first [classes or 1, w_dim], with what it makes of each class.
        average: fp32 [w_dim], mean w.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    average: Tensor

    @classmethod
    def pack(cls, generator: Generator) -> "MappingWeights":
        mapping, z_dim = generator.mapping, generator.config.z_dim
        layers = [cast(FullyConnectedLayer, layer) for layer in mapping.layers]
        weights = [layer.weight * layer.weight_gain for layer in layers]
        biases = [layer.bias * layer.multiplier for layer in layers]
        first, biases[0] = weights[0], biases[0][None]
        if (embed := mapping.embed) is not None:
            classes = embed.weight.t() * embed.weight_gain + embed.bias * embed.multiplier  # [classes, w_dim]
            biases[0] = biases[0] + normalize_second_moment(classes) @ first[:, z_dim:].t()
        weights[0] = first[:, :z_dim].contiguous()
        return cls(tuple(weights), tuple(biases), mapping.w_avg.clone())


@dataclass(frozen=True)
class LineLayer:
    """A modulated layer of the lines.

    Attributes:
        inputs, outputs: C_in and C_out.
        offset: offset of its weights in the modulated weights.
        bias_offset: offset of its biases.
        to_line: index of the addition to the running bundle if it is a ToLine, else None.
    """

    inputs: int
    outputs: int
    offset: int
    bias_offset: int
    to_line: int | None


@dataclass(frozen=True)
class Modulation:
    """Arguments of ``kernels.gpu.jit.lines.modulate_kernel``.

    Attributes:
        rows: int64 [rows, ROW_FIELDS].
        gains: fp32 [rows]; 0 for rows that pad colours.
        size: number of modulated weights per part.
        inputs: C_in of the widest row.
    """

    rows: Tensor
    gains: Tensor
    size: int
    inputs: int


@dataclass(frozen=True)
class ModulatedWeights:
    """Modulated layers of lines and refinement, and the affine layers that compute their styles.

    A *style vector* holds the styles of the Fourier input, [axis, D, C], and then the s of every modulated layer.

    Attributes:
        affine, affine_bias: fp32 [size of a style vector, w_dim] and [size].
        affine_source: int32 [size], index of the w (of num_ws) that each element is computed from.
        weights: fp32, W of all layers as [C_out, C_in].
        biases: fp32, biases of the line layers.
        frequencies: fp32 [D, C/2].
        input_weights: fp32 [axis, D, C], over √C.
        line_layers: in the order of execution.
        lines, refinement: arguments for their modulation.
    """

    affine: Tensor
    affine_bias: Tensor
    affine_source: Tensor
    weights: Tensor
    biases: Tensor
    frequencies: Tensor
    input_weights: Tensor
    line_layers: tuple[LineLayer, ...]
    lines: Modulation
    refinement: Modulation

    @classmethod
    def pack(cls, generator: Generator) -> "ModulatedWeights":
        config, synthesis = generator.config, generator.synthesis
        device, fourier = generator.mapping.w_avg.device, synthesis.input
        packer, lines, refinements = _Packer(), _Rows(gain=1.0), _Rows(GAIN)
        channels = fourier.weight.shape[0]
        # The original's order is [C, axis, D]; a kernel reads the channels of one axis and thickness at once.
        order = torch.arange(fourier.weight.numel()).view(fourier.weight.shape).permute(1, 2, 0).reshape(-1)
        packer.add_affine(fourier.affine, 0, order=order)
        line_layers, bias_offset = [], 0
        biases: list[Tensor] = []
        for k, block in enumerate(synthesis.blocks):
            block = cast(Block, block)
            # The first two blocks both start at style 1 (model.generator.SynthesisNetwork.lines).
            for source, layer in enumerate(filter(None, (block.fc0, block.fc1, block.to_line)), max(1, 2 * k - 1)):
                outputs, inputs = layer.weight.shape
                offset = packer.add_layer(lines, layer, source)
                to_line = k - 1 if layer is block.to_line else None
                line_layers.append(LineLayer(inputs, outputs, offset, bias_offset, to_line))
                biases.append(layer.bias)
                bias_offset += outputs
        columns = torch.tensor(CHANNEL_OF_COLUMN)
        for refinement in synthesis.refinements:
            refinement = cast(Refinement, refinement)
            for layer in (refinement.fc0, refinement.fc1, refinement.to_rgb):
                inputs_order = columns if layer.weight.shape[1] == FEATURES else None
                packer.add_layer(refinements, layer, config.num_ws - 1, inputs_order)
        return cls(
            affine=torch.cat(packer.affines),
            affine_bias=torch.cat(packer.affine_biases),
            affine_source=torch.tensor(packer.affine_sources, dtype=torch.int32, device=device),
            weights=torch.cat(packer.weights),
            biases=torch.cat(biases),
            frequencies=fourier.frequencies.t().contiguous(),
            input_weights=(fourier.weight / math.sqrt(channels)).permute(1, 2, 0).contiguous(),
            line_layers=tuple(line_layers),
            lines=lines.finish(device),
            refinement=refinements.finish(device),
        )


@dataclass
class _Rows:
    """Collects the rows of a modulation."""

    gain: float
    rows: list[tuple[int, ...]] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    size: int = 0

    def finish(self, device: torch.device) -> Modulation:
        rows = torch.tensor(self.rows, device=device).view(-1, ROW_FIELDS)
        return Modulation(rows, torch.tensor(self.gains, device=device), self.size, int(rows[:, 3].max()))


@dataclass
class _Packer:
    """Collects modulated layers and the affine layers of their styles."""

    affines: list[Tensor] = field(default_factory=list)
    affine_biases: list[Tensor] = field(default_factory=list)
    affine_sources: list[int] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    def add_affine(
        self, affine: FullyConnectedLayer, source: int, gain: float = 1.0, order: Tensor | None = None
    ) -> int:
        """Append an affine layer of w ``source`` to the style vector and return its offset there."""
        offset = len(self.affine_sources)
        weight, bias = affine.weight * (affine.weight_gain * gain), affine.bias * (affine.multiplier * gain)
        self.affines.append(weight if order is None else weight[order])
        self.affine_biases.append(bias if order is None else bias[order])
        self.affine_sources += [source] * len(bias)
        return offset

    def add_layer(self, modulation: _Rows, layer: ModulatedLayer, source: int, order: Tensor | None = None) -> int:
        """Append a modulated layer, with its inputs in ``order``, and return the offset of its modulated weights."""
        outputs, inputs = layer.weight.shape
        demodulated = not isinstance(layer, ModulatedOutputLayer)
        style = self.add_affine(layer.affine, source, 1.0 if demodulated else 1 / math.sqrt(inputs), order)
        weight = sum(tensor.numel() for tensor in self.weights)
        self.weights.append((layer.weight if order is None else layer.weight[:, order]).flatten())
        start = modulation.size
        for output in range(max(outputs, COLOURS)):
            source = weight + min(output, outputs - 1) * inputs
            modulation.rows.append((source, style, start + output * inputs, inputs, int(demodulated)))
            modulation.gains.append(modulation.gain if output < outputs else 0.0)
        modulation.size += -(-max(outputs, COLOURS) * inputs // _ALIGNMENT) * _ALIGNMENT
        return start


def _pad_colours(values: Tensor) -> Tensor:
    """[3, …] → [16, …], padded with zeros."""
    return torch.cat([values, values.new_zeros(COLOURS - RGB, *values.shape[1:])])
