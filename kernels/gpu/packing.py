"""A generator's weights as the GPU kernels read them: flat arrays, gains folded in, channels in a tensor core's order.

Packed once per checkpoint. What depends on the latent is made of it by ``kernels.lines.modulate``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from kernels.layers import COLOURS, GAIN
from kernels.lines import ROW_FIELDS
from kernels.products import CHANNEL_OF_COLUMN
from model.config import FEATURES, REFINEMENT_WIDTHS, RGB
from model.generator import Block, Decoder, Dense, Generator, Modulated, ModulatedOutput, Refinement

Packed = TypeVar("Packed", "PixelWeights", "ModulatedWeights", "Modulation")

REFINEMENT_SIZE = sum(a * b + b * c + c * COLOURS for a, b, c in REFINEMENT_WIDTHS)
"""Modulated weights of both refinement blocks, in fp16 numbers, a part."""

_ALIGNMENT = 128
"""Numbers to a multiple of which a layer's weights begin, for wide loads."""


def split_parts(values: Tensor, parts: int) -> Tensor:
    """fp32 […] → fp16 [parts, …], whose sum over the parts is the value."""
    high = values.half()
    return high[None] if parts == 1 else torch.stack([high, (values - high.float()).half()])


def lane_order(size: int) -> Tensor:
    """Indices [size] that put a bias in the order of lanes: outputs 8·j + 2·q + e by q, then j, then e."""
    return torch.arange(size).view(-1, 4, 2).transpose(0, 1).reshape(-1)


@dataclass(frozen=True)
class PixelWeights:
    """What all pixels of a checkpoint share.

    Attributes:
        weights: fp16 [parts, size]: each decoder's layers as [C_out, C_in], then to_rgb as [16, 32].
        biases: fp16, or fp32 where there are two parts: each decoder's layers, then those of both refinement blocks.
        colour_biases: fp32 [3, 16]: of to_rgb and of both ToRGB.
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
            layers = [cast(Dense, layer) for layer in cast(Decoder, decoder).layers]
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
        to_rgb = cast(Dense, synthesis.to_rgb)
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
class LineLayer:
    """A modulated layer of the lines. ``offset`` and ``bias_offset`` count numbers of the weights, modulated ones
    and biases; ``to_line`` is the number of the running bundle's addition, or None."""

    inputs: int
    outputs: int
    offset: int
    bias_offset: int
    to_line: int | None


@dataclass(frozen=True)
class Modulation:
    """What ``kernels.lines.modulate`` does.

    Attributes:
        rows: int64 [rows, ROW_FIELDS].
        gains: fp32 [rows].
        size: numbers of all modulated weights, a part.
        inputs: of the widest row.
    """

    rows: Tensor
    gains: Tensor
    size: int
    inputs: int


@dataclass(frozen=True)
class ModulatedWeights:
    """What styles modulate, and how styles come from w.

    A *style vector* holds the styles of the Fourier input, [axis, D, C], and then the s of every modulated layer.

    Attributes:
        affine: fp32 [size of a style vector, w_dim], its bias [size], and of which of the num_ws styles each is made.
        weights: fp32, all layers' W as [C_out, C_in].
        biases: fp32, those of the lines' layers.
        frequencies: fp32 [D, C/2].
        input_weights: fp32 [axis, D, C], over √C.
        line_layers: in the order in which they run.
        lines, refinement: how their weights are modulated.
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
        packer = _Packer()
        fourier = synthesis.input
        channels = fourier.weight.shape[0]
        # The original's order is [C, axis, D]; a kernel reads the channels of one axis and thickness at once.
        order = torch.arange(fourier.weight.numel()).view(fourier.weight.shape).permute(1, 2, 0).reshape(-1)
        packer.add_affine(fourier.affine, 0, order=order)
        line_layers = []
        for k, block in enumerate(synthesis.blocks):
            block = cast(Block, block)
            # The first two blocks both begin at style 1 (model.generator.Synthesis.lines).
            for source, layer in enumerate(filter(None, (block.fc0, block.fc1, block.to_line)), max(1, 2 * k - 1)):
                line_layers.append(packer.add_line_layer(layer, source, k - 1 if layer is block.to_line else None))
        columns = torch.tensor(CHANNEL_OF_COLUMN)
        for refinement in synthesis.refinements:
            refinement = cast(Refinement, refinement)
            for layer in (refinement.fc0, refinement.fc1, refinement.to_rgb):
                inputs = columns if layer.weight.shape[1] == FEATURES else None
                packer.add_refinement_layer(layer, config.num_ws - 1, inputs)
        return cls(
            affine=torch.cat(packer.affines),
            affine_bias=torch.cat(packer.affine_biases),
            affine_source=torch.tensor(packer.affine_sources),
            weights=torch.cat(packer.weights),
            biases=torch.cat(packer.biases),
            frequencies=fourier.frequencies.t().contiguous(),
            input_weights=(fourier.weight / math.sqrt(channels)).permute(1, 2, 0).contiguous(),
            line_layers=tuple(line_layers),
            lines=packer.line_rows.finish(),
            refinement=packer.refinement_rows.finish(),
        )


@dataclass
class _Rows:
    """A modulation in the making."""

    rows: list[tuple[int, ...]] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    size: int = 0

    def add(self, layer: Modulated, weight_offset: int, style_offset: int, gain: float, padded_outputs: int) -> int:
        """Plans a layer's rows and returns where they begin."""
        start = self.size
        outputs, inputs = layer.weight.shape
        demodulated = int(not isinstance(layer, ModulatedOutput))
        for i in range(outputs):
            self.rows.append((weight_offset + i * inputs, style_offset, start + i * inputs, inputs, demodulated))
        self.gains += [gain] * outputs
        self.size += -(-padded_outputs * inputs // _ALIGNMENT) * _ALIGNMENT
        return start

    def finish(self) -> Modulation:
        rows = torch.tensor(self.rows).view(-1, ROW_FIELDS)
        return Modulation(rows, torch.tensor(self.gains), self.size, int(rows[:, 3].max()))


@dataclass
class _Packer:
    affines: list[Tensor] = field(default_factory=list)
    affine_biases: list[Tensor] = field(default_factory=list)
    affine_sources: list[int] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    biases: list[Tensor] = field(default_factory=list)
    line_rows: _Rows = field(default_factory=_Rows)
    refinement_rows: _Rows = field(default_factory=_Rows)

    def add_affine(self, affine: Dense, source: int, gain: float = 1.0, order: Tensor | None = None) -> int:
        """Adds to the style vector what ``affine`` makes of style ``source``; returns where it begins there."""
        offset = len(self.affine_sources)
        weight, bias = affine.weight * (affine.weight_gain * gain), affine.bias * (affine.multiplier * gain)
        self.affines.append(weight if order is None else weight[order])
        self.affine_biases.append(bias if order is None else bias[order])
        self.affine_sources += [source] * len(bias)
        return offset

    def add_line_layer(self, layer: Modulated, source: int, to_line: int | None) -> LineLayer:
        style = self._add_style(layer, source)
        weight = self._add_weight(layer.weight)
        outputs, inputs = layer.weight.shape
        bias_offset = _total(self.biases)
        self.biases.append(layer.bias)
        offset = self.line_rows.add(layer, weight, style, 1.0, outputs)
        return LineLayer(inputs, outputs, offset, bias_offset, to_line)

    def add_refinement_layer(self, layer: Modulated, source: int, order: Tensor | None) -> None:
        style = self._add_style(layer, source, order)
        weight = self._add_weight(layer.weight if order is None else layer.weight[:, order])
        outputs = layer.weight.shape[0]
        self.refinement_rows.add(layer, weight, style, GAIN, COLOURS if outputs == RGB else outputs)

    def _add_style(self, layer: Modulated, source: int, order: Tensor | None = None) -> int:
        is_output = isinstance(layer, ModulatedOutput)
        gain = 1 / math.sqrt(layer.weight.shape[1]) if is_output else 1.0
        return self.add_affine(layer.affine, source, gain, order)

    def _add_weight(self, weight: Tensor) -> int:
        offset = _total(self.weights)
        self.weights.append(weight.flatten())
        return offset


def move(packed: Packed, device: torch.device) -> Packed:
    """A packed dataclass with all its tensors on a device."""
    values: dict[str, Any] = {f.name: getattr(packed, f.name) for f in fields(packed)}
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = value.to(device)
        elif isinstance(value, Modulation):
            values[name] = move(value, device)
    return replace(packed, **values)


def _total(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _pad_colours(values: Tensor) -> Tensor:
    """[3, …] → [16, …], zeros below."""
    return torch.cat([values, values.new_zeros(COLOURS - RGB, *values.shape[1:])])
