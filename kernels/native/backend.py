"""Native backend: the C++ kernels of source/, for the CPU's vector or matrix units."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.block_renderer import BlockBackend
from kernels.block_warp import Lattice
from kernels.native.library import (
    LRELU,
    LRELU_CLAMP,
    LRELU_PRODUCT,
    RGB_ADD,
    RGB_FIRST,
    Fourier,
    Library,
    LineLayer,
    LineStrides,
    PixelLayer,
    pad,
)
from kernels.style import SQRT2, Layer, Style, compute_style, decoder_layers, fully_connected
from model.config import FEATURES, RGB
from model.generator import ROWS, Block, Generator
from model.latents.latent import Latent

PATCH = 8
"""Rows and columns of pixels that the kernels for matrix units compute together."""


class Memory(list[Tensor]):
    """Keeps the tensors that C structures point to."""

    def pointer(self, tensor: Tensor) -> int:
        self.append(tensor)
        return tensor.data_ptr()


@dataclass
class NativeStyle:
    """The layers of one latent as the kernels read them.

    Attributes:
        inputs: Fourier features of rows and columns.
    """

    inputs: tuple[Fourier, Fourier]
    line_layers: "ctypes.Array[LineLayer]"
    pixel_layers: "ctypes.Array[PixelLayer]"
    memory: Memory


class NativeBackend(BlockBackend[NativeStyle]):
    """Renders the visible part of tiles of 64×64 pixels. A pixel's bytes do not depend on its place in a tile."""

    name = "native"
    clip = True

    @torch.no_grad()
    def __init__(self, generator: Generator, library: Library, threads: int | None = None) -> None:
        super().__init__(generator, torch.device("cpu"), side=64, threads=threads)
        self.precision = library.precision
        self.arithmetic = f"{library.precision.replace('×', 'x')}-{library.target}"
        self._library = library
        synthesis = generator.synthesis
        self._frequencies = pad(synthesis.input.frequencies.t()).double()  # [D, C/2]
        # Weights are packed once; a latent only adds vectors, and its small refinement layers.
        self._decoders = [
            [self._pack(layer) for layer in (_unscaled(first), *others, Layer(*(x * SQRT2 for x in last)))]
            for first, *others, last in decoder_layers(generator)
        ]
        self._to_rgb = self._pack(_unscaled(fully_connected(synthesis.to_rgb)))
        self._line_weights = [self._pack_line(weight) for weight in _line_weights(generator)]
        decoders = [layer.weight for layers in self._decoders for layer in layers]
        self.packed_bytes = sum(weight.nbytes for weight in (*self._line_weights, *decoders))
        rows = torch.eye(PATCH) if library.lanes == 1 else torch.ones(1, 1)  # of warped images, see warp_colours
        self._unit_rows = rows[None, :, :, None].repeat(self._config.bundles, 1, 1, FEATURES).permute(0, 3, 1, 2)
        self._width = max(2 * self._frequencies.shape[1], *(-(-c // 32) * 32 for c in self._config.channels))

    @torch.no_grad()
    def style(self, latent: Latent) -> NativeStyle:
        style, memory = compute_style(self._generator, latent), Memory()
        first = style.blocks[0][0][0].scale
        inputs = [
            Fourier(
                frequencies=self._frequencies.data_ptr(),
                factors=memory.pointer(_pad_halves(factors[:, 0] * first)),  # [D, C]
                half=self._frequencies.shape[1],
                thickness=self._config.thickness,
            )
            for factors in style.inputs
        ]
        lines, pixels = self._line_layers(style, memory), self._pixel_layers(style, memory)
        return NativeStyle(
            (inputs[0], inputs[1]), (LineLayer * len(lines))(*lines), (PixelLayer * len(pixels))(*pixels), memory
        )

    def block_lines(self, style: NativeStyle, positions: NDArray[np.float64], axis: int) -> Tensor:
        config, length = self._config, len(positions)
        positions = np.pad(positions, (0, -length % self._library.lanes), mode="edge")
        # Vector kernels read row lines number by number, column lines in vectors of positions.
        if axis == ROWS or self._library.lanes == 1:
            lines = torch.empty(config.bundles, len(positions), config.thickness, FEATURES).permute(0, 3, 1, 2)
        else:
            lines = torch.empty(config.bundles, config.thickness, FEATURES, len(positions)).permute(0, 2, 3, 1)
        bundle, channel, position, thickness = lines.stride()
        self._library.draw_lines(
            style.line_layers,
            len(style.line_layers),
            self._width,
            style.inputs[axis],
            positions.ctypes.data,
            len(positions),
            math.sqrt(0.5),
            lines.data_ptr(),
            LineStrides(bundle, thickness, channel, position),
        )
        return lines[:, :, :length]  # [bundles, 32, L, D], a view

    def block_colours(self, style: NativeStyle, rows: Tensor, columns: Tensor) -> Tensor:
        colours = torch.empty(rows.shape[2], columns.shape[2], RGB)
        self._library.draw_pixels(
            style.pixel_layers,
            len(style.pixel_layers),
            1 if self._decoders else self._config.bundles,
            rows.shape[3],
            rows.data_ptr(),
            rows.stride(0),
            columns.data_ptr(),
            columns.stride(0),
            columns.stride(1),
            *colours.shape[:2],
            colours.data_ptr(),
        )
        return colours

    def warp_colours(self, style: NativeStyle, rows: Lattice, columns: Lattice) -> Tensor:
        bundles, count = self._config.bundles, len(rows.first)
        # The kernels multiply lines, so the products of P samples become lines: for matrix units P / 8 columns of
        # thickness 8, each number of which belongs to one of eight rows; else one row of ones and P columns.
        matrices = self._library.lanes == 1
        if matrices:
            products = torch.empty(bundles, count // PATCH, PATCH, FEATURES).permute(0, 3, 1, 2)
        else:
            products = torch.empty(bundles, FEATURES, count, 1)
        pages = [np.array([page.data_ptr() for page in axis.pages], np.uintp) for axis in (rows, columns)]
        self._library.draw_products(
            *(pages[0].ctypes.data, rows.first.ctypes.data, rows.fraction.ctypes.data),
            *(pages[1].ctypes.data, columns.first.ctypes.data, columns.fraction.ctypes.data),
            *(bundles, self._config.thickness, count, matrices, products.data_ptr()),
        )
        return self.block_colours(style, self._unit_rows, products).transpose(0, 1).reshape(count, RGB)

    def _line_layers(self, style: Style, memory: Memory) -> list[LineLayer]:
        scaled = [layer for layers, _ in style.blocks for layer in layers]
        scales = [*(memory.pointer(pad(layer.scale)) for layer in scaled[1:]), None]  # of the next layer's inputs
        found: list[LineLayer] = []
        weights, next_scales = iter(self._line_weights), iter(scales)
        for block, (layers, output) in enumerate(style.blocks):
            for layer in layers:
                weight = next(weights)
                line = output.scale if output is not None and layer is layers[-1] else None
                found.append(
                    LineLayer(
                        weight=weight.data_ptr(),
                        bias=memory.pointer(pad(layer.layer.bias)),
                        gain=memory.pointer(pad(layer.gain)),
                        next=next(next_scales),
                        line=None if line is None else memory.pointer(pad(line)),
                        outputs=weight.shape[0],
                        inputs=weight.shape[1],
                    )
                )
            if output is not None:
                weight = next(weights)
                found.append(
                    LineLayer(
                        weight=weight.data_ptr(),
                        bias=memory.pointer(pad(output.layer.bias)),
                        outputs=weight.shape[0],
                        inputs=weight.shape[1],
                        bundle=min(block, self._config.bundles) - 1,  # a single bundle if fusion is "last"
                    )
                )
        return found

    def _pixel_layers(self, style: Style, memory: Memory) -> list[PixelLayer]:
        found: list[PixelLayer] = []

        def add(layer: Layer, activation: int, bundle: int = 0) -> None:
            outputs, inputs = layer.weight.shape
            weight, bias = memory.pointer(layer.weight), memory.pointer(layer.bias)
            found.append(PixelLayer(weight, bias, activation, inputs, outputs, bundle))

        for k, layers in enumerate(self._decoders, start=1):
            for layer in layers[:-1]:
                add(layer, LRELU)
            add(layers[-1], LRELU_PRODUCT if k < self._config.bundles else LRELU, k)
        add(self._to_rgb, RGB_FIRST)
        for i, (fc0, fc1, to_rgb) in enumerate(style.refinements):
            add(self._pack(fc0 if i else _unscaled(fc0)), LRELU_CLAMP)
            add(self._pack(fc1), LRELU_CLAMP)
            add(self._pack(to_rgb), RGB_ADD)
        return found

    def _pack(self, layer: Layer) -> Layer:
        """A layer of the pixel network in the kernels' layout. Three outputs are padded."""
        outputs = self._library.colour_outputs if len(layer.bias) == RGB else len(layer.bias)
        weight = torch.nn.functional.pad(layer.weight, (0, 0, 0, outputs - len(layer.bias)))
        return Layer(self._library.pack(weight), pad(layer.bias))

    def _pack_line(self, weight: Tensor) -> Tensor:
        return self._library.pack(pad(pad(weight).t()).t())


def _line_weights(generator: Generator) -> Sequence[Tensor]:
    """Weights [C_out, C_in] of the line network, in order."""
    weights = [
        layer.weight
        for block in generator.synthesis.blocks
        if isinstance(block, Block)
        for layer in (block.fc0, block.fc1, block.to_line)
        if layer is not None
    ]
    return [_pad_halves(weights[0]), *weights[1:]]


def _unscaled(layer: Layer) -> Layer:
    """A layer that reads the fused features G, which the kernels do not store over √2 as they do the others."""
    return Layer(layer.weight / SQRT2, layer.bias)


def _pad_halves(x: Tensor) -> Tensor:
    """Sines and cosines, the halves of the last axis, each padded."""
    return torch.cat([pad(half) for half in x.chunk(2, dim=-1)], dim=-1)
