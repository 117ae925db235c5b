"""The CREPS generator (Nguyen, Le, Tran: CREPS, CVPR 2023), written to be read: the specification of everything fast.

A picture is a function of position. Its features are two bundles of *lines*, one along the rows and one along the
columns; the features of pixel (y, x) are the product of row line y and column line x. Every layer is a 1×1 layer
modulated by a style, so rows and columns may lie on any positions: that is all that a crop or a scale is.

Axes: N pictures, C channels, H rows, W columns, L line positions, D thickness, K blocks.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import DECODER_WIDTHS, FEATURES, REFINEMENT_WIDTHS, RGB, GeneratorConfig

ROWS, COLUMNS = 0, 1

CLAMP = 256.0
"""Bound of every modulated layer's output (original ``conv_clamp``)."""

EPSILON = 1e-8
"""Added under the square root when normalising (StyleGAN2)."""


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2 to keep the variance (StyleGAN2's ``bias_act`` default)."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2.0)


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x [N, C, P] plus bias [C]; keeps the reduced precision that autocast may have given x."""
    return x + bias.to(x.dtype)[:, None]


def normalize_second_moment(x: Tensor) -> Tensor:
    """x / √(mean(x²) + 1e-8) over the last axis of [N, C]."""
    return x * (x.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt()


class Dense(nn.Module):
    """[N, C_in] → [N, C_out]: y = (m·W/√fan_in)·x + m·b (StyleGAN2's equalised learning rate with multiplier m)."""

    def __init__(self, c_in: int, c_out: int, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in) / multiplier)
        self.bias = nn.Parameter(torch.full((c_out,), bias / multiplier))
        self.weight_gain = multiplier / math.sqrt(c_in)
        self.multiplier = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.multiplier)


class PixelDense(Dense):
    """The same layer for every pixel: [N, C_in, P] → [N, C_out, P]."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight * self.weight_gain).expand(len(x), -1, -1)  # folding N into P instead would copy x
        return add_bias(weight @ x, self.bias * self.multiplier)


class Mapping(nn.Module):
    """z [N, z_dim] and, for a conditional network, a one-hot class [N, classes] → w [N, w_dim]."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.embed = Dense(config.classes, config.w_dim) if config.classes else None
        width = config.z_dim + (config.w_dim if config.classes else 0)
        widths = [width] + [config.w_dim] * config.mapping_layers
        # 0.01: the mapping learns a hundred times slower than the rest (StyleGAN).
        self.layers = nn.ModuleList(Dense(a, b, multiplier=0.01) for a, b in pairwise(widths))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = normalize_second_moment(z.to(self.w_avg.dtype))
        if self.embed is not None:
            if label is None:
                raise ValueError("a conditional network needs a class for every picture")
            x = torch.cat([x, normalize_second_moment(self.embed(label))], dim=1)
        for layer in self.layers:
            x = lrelu(layer(x))
        return x

    def truncate(self, w: Tensor, num_ws: int, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """w [N, w_dim] copied to every layer, [N, num_ws, w_dim]; the first ``cutoff`` drawn towards the mean by ψ."""
        ws = w[:, None, :].repeat(1, num_ws, 1)
        if psi != 1.0:
            cutoff = num_ws if cutoff is None else cutoff
            ws[:, :cutoff] = torch.lerp(self.w_avg, ws[:, :cutoff], psi)
        return ws


class Modulated(nn.Module):
    """The modulated 1×1 layer: [N, C_in, P] → [N, C_out, P] under the style w [N, w_dim].

    y_o = lrelu(d_o · Σ_i W_oi s_i x_i + b_o) clamped to ±256, with s = affine(w) and d_o = 1/√(Σ_i (W_oi s_i)² + 1e-8).
    """

    def __init__(self, c_in: int, c_out: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Dense(w_dim, c_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(c_out, c_in))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def modulated_weight(self, w: Tensor) -> Tensor:
        """The layer's weight under each style, demodulated: [N, C_out, C_in]."""
        style: Tensor = self.affine(w)  # [N, C_in]
        weight = self.weight * style[:, None, :]
        return weight * (weight.square().sum(dim=2, keepdim=True) + EPSILON).rsqrt()

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return lrelu(add_bias(self.modulated_weight(w) @ x, self.bias)).clamp(-CLAMP, CLAMP)


class ModulatedOutput(Modulated):
    """As :class:`Modulated`, but with the style over √C_in, no demodulation and no activation (``tores``, ToRGB)."""

    def modulated_weight(self, w: Tensor) -> Tensor:
        style: Tensor = self.affine(w) / math.sqrt(self.weight.shape[1])
        return self.weight * style[:, None, :]

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return add_bias(self.modulated_weight(w) @ x, self.bias).clamp(-CLAMP, CLAMP)


class FourierInput(nn.Module):
    """Network coordinates [L] → the first features of one axis, [N, C, L, D]."""

    frequencies: Tensor

    def __init__(self, channels: int, thickness: int, w_dim: int) -> None:
        super().__init__()
        # 10 cycles over the picture: standard deviation of the original's frequencies.
        self.register_buffer("frequencies", torch.randn(channels // 2, thickness) * 10.0)
        self.weight = nn.Parameter(torch.randn(channels, 2, thickness))
        self.affine = Dense(w_dim, channels * 2 * thickness, bias=1.0)

    def forward(self, positions: Tensor, w: Tensor, axis: int) -> Tensor:
        # In float64 up to the fraction of a cycle: float32 would blur the pixels of very large pictures.
        cycles = self.frequencies.double()[:, None, :] * positions.double()[None, :, None]
        phase = ((cycles - cycles.floor()) * (2 * math.pi)).to(self.weight.dtype)
        features = torch.cat([phase.sin(), (phase + math.pi / 2).sin()])  # [C, L, D]
        channels = features.shape[0]
        style: Tensor = self.affine(w).view(-1, *self.weight.shape)  # [N, C, 2, D]
        scale = (self.weight * style)[:, :, axis, None, :] / math.sqrt(channels)  # [N, C, 1, D]
        return features * scale


class Block(nn.Module):
    """Two modulated layers (the first block has one) and, but for the first block, a ToLine."""

    def __init__(self, c_in: int | None, channels: int, w_dim: int) -> None:
        super().__init__()
        self.fc0 = None if c_in is None else Modulated(c_in, channels, w_dim)
        self.fc1 = Modulated(channels, channels, w_dim)
        self.to_line = None if c_in is None else ModulatedOutput(channels, FEATURES, w_dim)

    def forward(self, x: Tensor, ws: Tensor) -> tuple[Tensor, Tensor | None]:
        """x [N, C_in, L·D] and ws [N, ≥ number of layers, w_dim] → features and the addition to the line bundle."""
        if self.fc0 is None or self.to_line is None:
            return self.fc1(x, ws[:, 0]), None
        x = self.fc1(self.fc0(x, ws[:, 0]), ws[:, 1])
        return x, self.to_line(x, ws[:, 2])


class Decoder(nn.Module):
    """A per-pixel MLP, 32 → 64 → 128 → 64 → 32 channels, lrelu after every layer: [N, 32, P] → [N, 32, P]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PixelDense(a, b) for a, b in pairwise(DECODER_WIDTHS))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = lrelu(layer(x))
        return x


class Refinement(nn.Module):
    """Two modulated layers on pixels and a ToRGB: [N, C_in, P] → features [N, C, P] and colours [N, 3, P]."""

    def __init__(self, widths: Sequence[int], w_dim: int) -> None:
        super().__init__()
        self.fc0 = Modulated(widths[0], widths[1], w_dim)
        self.fc1 = Modulated(widths[1], widths[2], w_dim)
        self.to_rgb = ModulatedOutput(widths[2], RGB, w_dim)

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fc1(self.fc0(x, w), w)
        return x, self.to_rgb(x, w)


class Synthesis(nn.Module):
    """Styles and positions → lines → pixels."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input = FourierInput(channels[0], config.thickness, config.w_dim)
        self.blocks = nn.ModuleList(
            Block(c_in, c, config.w_dim) for c_in, c in zip((None, *channels), channels, strict=False)
        )
        self.decoders = nn.ModuleList(Decoder() for _ in range(config.decoder_count))
        self.to_rgb = PixelDense(FEATURES, RGB)
        self.refinements = nn.ModuleList(Refinement(widths, config.w_dim) for widths in REFINEMENT_WIDTHS)

    def lines(self, ws: Tensor, positions: Tensor, axis: int) -> Tensor:
        """The line bundles of one axis.

        Args:
            ws: styles [N, num_ws, w_dim].
            positions: network coordinates u [L], float64, the training picture being 0 … 1.
            axis: ROWS or COLUMNS.

        Returns:
            [N, bundles, 32, L, D], scaled by √½.
        """
        x = self.input(positions, ws[:, 0], axis)  # [N, C, L, D]
        shape = x.shape[2:]
        x = x.flatten(2)
        running: Tensor | None = None
        bundles = []
        for k, block in enumerate(self.blocks):
            # Style indices as the original counts them: the first two blocks both begin at 1, later ones two further.
            x, addition = block(x, ws[:, max(1, 2 * k - 1) :])
            if addition is not None:
                running = addition if running is None else running + addition
                bundles.append(running)
        kept = torch.stack(bundles[-self.config.bundles :], dim=1)
        return kept.reshape(*kept.shape[:3], *shape) * math.sqrt(0.5)

    def pixels(self, ws: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Colours of every pair of a row line and a column line.

        Args:
            ws: styles [N, num_ws, w_dim]; the last one modulates the refinement.
            rows: [N, bundles, 32, H, D] from :meth:`lines`.
            columns: [N, bundles, 32, W, D] likewise.

        Returns:
            [N, 3, H, W], about −1 … 1.
        """
        height, width = rows.shape[3], columns.shape[3]
        g = self.fuse(rows, columns)
        return self.refine(g, self.to_rgb(g), ws[:, -1]).reshape(-1, RGB, height, width)

    def fuse(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Features G of every pair of a row line and a column line, [N, 32, H·W]; arguments as of :meth:`pixels`."""
        g = torch.zeros((), dtype=rows.dtype, device=rows.device)
        for k in range(self.config.bundles):
            product = rows[:, k] @ columns[:, k].transpose(2, 3)  # [N, 32, H, W]
            # G_k = decoder_k(G_{k−1}) + F_k: the decoder that follows each product is applied before the next one.
            g = g + product.flatten(2)
            if self.decoders:
                g = self.decoders[k](g)
        return g

    def refine(self, g: Tensor, rgb: Tensor, w: Tensor) -> Tensor:
        """Colours rgb [N, 3, P] plus what the refinement makes of the features g [N, 32, P] under w [N, w_dim]."""
        for refinement in self.refinements:
            g, addition = refinement(g, w)
            rgb = rgb + addition
        return rgb

    def forward(self, ws: Tensor, row_positions: Tensor, column_positions: Tensor) -> Tensor:
        """ws [N, num_ws, w_dim], positions [H] and [W] → picture [N, 3, H, W]."""
        rows = self.lines(ws, row_positions, ROWS)
        columns = self.lines(ws, column_positions, COLUMNS)
        return self.pixels(ws, rows, columns)


class Generator(nn.Module):
    """Mapping and synthesis. Parameters are fp32 and drawn as the original draws them."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)

    def forward(self, z: Tensor, label: Tensor | None = None, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """The picture at the training resolution, corner to corner.

        Args:
            z: [N, z_dim].
            label: one-hot classes [N, classes]; required by conditional networks.
            psi, cutoff: truncation of the first ``cutoff`` styles (all of them by default) towards the mean.

        Returns:
            [N, 3, R, R], about −1 … 1.
        """
        ws = self.mapping.truncate(self.mapping(z, label), self.config.num_ws, psi, cutoff)
        positions = torch.linspace(0.0, 1.0, self.config.resolution, dtype=torch.float64, device=z.device)
        image: Tensor = self.synthesis(ws, positions, positions)
        return image
