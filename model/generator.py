"""The CREPS generator, written to be read: the specification of every faster renderer.

Nguyen, Le, Tran: Efficient Scale-Invariant Generator with Column-Row Entangled Pixel Synthesis (CREPS), CVPR 2023,
arXiv 2303.14157. An image is a function of position, in three steps:

* *Bi-line representation*: features of H×W pixels are never computed from position. They are products of two bundles
  of lines, one for the rows and one for the columns: F[y, x] = Σ_d row[y, d] · column[x, d]. The number D of terms is
  the *thickness* of the lines.
* *Layer-wise fusion*: the lines of every block give such a product, and products are summed from first to last with a
  per-pixel decoder in between.
* A refinement of modulated per-pixel layers turns the sum into colours.

All layers are 1×1 layers modulated by a style, so rows and columns may lie at any positions. Crops and scales are
nothing but a choice of positions.

Axes: N images, C channels, H rows, W columns, P = H·W pixels, L line positions, D thickness, K blocks. References:

* StyleGAN: Karras et al. 2019, arXiv 1812.04948. StyleGAN2: Karras et al. 2020, arXiv 1912.04958, Eq. 1 and 3.
* Progressive GAN: Karras et al. 2018, arXiv 1710.10196. Fourier features: Tancik et al. 2020, arXiv 2006.10739.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import CLAMP, DECODER_WIDTHS, EPSILON, FEATURES, REFINEMENT_WIDTHS, RGB, GeneratorConfig

ROWS, COLUMNS = 0, 1


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, times √2 to keep the variance (default of StyleGAN2's ``bias_act``)."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2.0)


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """x [N, C, P] plus bias [C], in the precision of x, which autocast may have reduced."""
    return x + bias.to(x.dtype)[:, None]


def normalize_second_moment(x: Tensor) -> Tensor:
    """x / √(mean(x²) + ε) over the last axis of [N, C] (Progressive GAN, section 4.2)."""
    return x * (x.square().mean(dim=-1, keepdim=True) + EPSILON).rsqrt()


def random_normal(*shape: int, divisor: float = 1.0) -> Tensor:
    """Initial weights of a shape: normal values divided by ``divisor``. On the meta device, only the shape.

    The meta device draws and divides by torch's compiler, and importing that takes longer than loading a network.
    """
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_() / divisor


class FullyConnectedLayer(nn.Module):
    """[N, C_in] → [N, C_out]: y = (m·W/√C_in)·x + m·b.

    1/√C_in is the equalised learning rate (Progressive GAN, section 4.1) and m its multiplier (StyleGAN).
    """

    def __init__(self, c_in: int, c_out: int, bias: float = 0.0, multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_normal(c_out, c_in, divisor=multiplier))
        self.bias = nn.Parameter(torch.full((c_out,), bias / multiplier))
        self.weight_gain = multiplier / math.sqrt(c_in)
        self.multiplier = multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.multiplier)  # [N, C_out]


class PixelFullyConnectedLayer(FullyConnectedLayer):
    """The same layer for every pixel: [N, C_in, P] → [N, C_out, P]."""

    def forward(self, x: Tensor) -> Tensor:
        # [N, C_out, C_in], a view; folding N into P instead would copy x
        weight = (self.weight * self.weight_gain).expand(len(x), -1, -1)
        return add_bias(weight @ x, self.bias * self.multiplier)  # [N, C_out, P]


class MappingNetwork(nn.Module):
    """z [N, z_dim] and, for a conditional network, one-hot classes [N, classes] → w [N, w_dim] (StyleGAN)."""

    w_avg: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.embed = FullyConnectedLayer(config.classes, config.w_dim) if config.classes else None
        width = config.z_dim + (config.w_dim if config.classes else 0)
        widths = [width] + [config.w_dim] * config.mapping_layers
        # 0.01: the mapping network learns a hundred times slower than the rest (StyleGAN).
        self.layers = nn.ModuleList(FullyConnectedLayer(a, b, multiplier=0.01) for a, b in pairwise(widths))
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        x = normalize_second_moment(z.to(self.w_avg.dtype))  # [N, z_dim]
        if self.embed is not None:
            if label is None:
                raise ValueError("a conditional network needs a class for every image")
            x = torch.cat([x, normalize_second_moment(self.embed(label))], dim=1)  # [N, z_dim + w_dim]
        for layer in self.layers:
            x = lrelu(layer(x))  # [N, w_dim]
        return x

    def truncate(self, w: Tensor, num_ws: int, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Copy w [N, w_dim] to every layer, or w+ [N, num_ws, w_dim], and truncate the first ``cutoff`` layers.

        Returns w+ [N, num_ws, w_dim]: w' = w_avg + ψ·(w − w_avg), the truncation trick (StyleGAN, appendix B).
        """
        ws = w[:, None, :].repeat(1, num_ws, 1) if w.ndim == 2 else w.clone()  # [N, num_ws, w_dim]
        if psi != 1.0:
            cutoff = num_ws if cutoff is None else cutoff
            ws[:, :cutoff] = torch.lerp(self.w_avg, ws[:, :cutoff], psi)
        return ws


class ModulatedLayer(nn.Module):
    """The modulated 1×1 layer of StyleGAN2: x [N, C_in, P] under the style w [N, w_dim] → [N, C_out, P].

    W'_oi = s_i · W_oi with s = affine(w)          (Eq. 1, modulation)
    W''_oi = W'_oi / √(Σ_i W'_oi² + ε)             (Eq. 3, demodulation)
    y = clamp(lrelu(W''·x + b), ±256)
    """

    def __init__(self, c_in: int, c_out: int, w_dim: int) -> None:
        super().__init__()
        self.affine = FullyConnectedLayer(w_dim, c_in, bias=1.0)
        self.weight = nn.Parameter(random_normal(c_out, c_in))
        self.bias = nn.Parameter(torch.zeros(c_out))

    def modulated_weight(self, w: Tensor) -> Tensor:
        """W'' for each style: [N, C_out, C_in]."""
        style: Tensor = self.affine(w)  # [N, C_in]
        weight = self.weight * style[:, None, :]  # [N, C_out, C_in], Eq. 1
        return weight * (weight.square().sum(dim=2, keepdim=True) + EPSILON).rsqrt()  # Eq. 3

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return lrelu(add_bias(self.modulated_weight(w) @ x, self.bias)).clamp(-CLAMP, CLAMP)  # [N, C_out, P]


class ModulatedOutputLayer(ModulatedLayer):
    """A :class:`ModulatedLayer` with s = affine(w)/√C_in, without demodulation and activation, as StyleGAN2's ToRGB."""

    def modulated_weight(self, w: Tensor) -> Tensor:
        style: Tensor = self.affine(w) / math.sqrt(self.weight.shape[1])  # [N, C_in]
        return self.weight * style[:, None, :]  # [N, C_out, C_in], Eq. 1

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return add_bias(self.modulated_weight(w) @ x, self.bias).clamp(-CLAMP, CLAMP)  # [N, C_out, P]


class FourierInput(nn.Module):
    """Fourier features of one axis, modulated by the style: positions [L] or [N, L] and w [N, w_dim] → [N, C, L, D].

    γ(u) = [sin(2π f u), cos(2π f u)] with random frequencies f (Tancik et al.), C/2 for each of the D terms.
    """

    frequencies: Tensor

    def __init__(self, channels: int, thickness: int, w_dim: int, bandwidth: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", random_normal(channels // 2, thickness).mul_(bandwidth))
        self.weight = nn.Parameter(random_normal(channels, 2, thickness))
        self.affine = FullyConnectedLayer(w_dim, channels * 2 * thickness, bias=1.0)

    def forward(self, positions: Tensor, w: Tensor, axis: int) -> Tensor:
        # float64 up to the fraction of a cycle: float32 would blur the pixels of very large images.
        cycles = self.frequencies.double()[:, None, :] * positions.double()[..., None, :, None]  # [(N,) C/2, L, D]
        phase = ((cycles - cycles.floor()) * (2 * math.pi)).to(self.weight.dtype)  # [(N,) C/2, L, D]
        features = torch.cat([phase.sin(), (phase + math.pi / 2).sin()], dim=-3)  # [(N,) C, L, D]
        channels = features.shape[-3]
        style: Tensor = self.affine(w).view(-1, *self.weight.shape)  # [N, C, 2, D]
        scale = (self.weight * style)[:, :, axis, None, :] / math.sqrt(channels)  # [N, C, 1, D]
        return features * scale  # [N, C, L, D]


class Block(nn.Module):
    """Two modulated layers on lines and a projection to the line bundle; the first block is one layer alone."""

    def __init__(self, c_in: int | None, channels: int, w_dim: int) -> None:
        super().__init__()
        self.fc0 = None if c_in is None else ModulatedLayer(c_in, channels, w_dim)
        self.fc1 = ModulatedLayer(channels, channels, w_dim)
        self.to_line = None if c_in is None else ModulatedOutputLayer(channels, FEATURES, w_dim)

    def forward(self, x: Tensor, ws: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and, but for the first block, what they add to the line bundle.

        Args:
            x: [N, C_in, L·D].
            ws: styles [N, ≥ number of layers, w_dim].

        Returns:
            [N, C, L·D] and [N, 32, L·D] or None.
        """
        if self.fc0 is None or self.to_line is None:
            return self.fc1(x, ws[:, 0]), None
        x = self.fc1(self.fc0(x, ws[:, 0]), ws[:, 1])  # [N, C, L·D]
        return x, self.to_line(x, ws[:, 2])


class Decoder(nn.Module):
    """A per-pixel MLP of 32 → 64 → 128 → 64 → 32 channels: [N, 32, P] → [N, 32, P]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PixelFullyConnectedLayer(a, b) for a, b in pairwise(DECODER_WIDTHS))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = lrelu(layer(x))
        return x


class Refinement(nn.Module):
    """Two modulated layers on pixels and a ToRGB: [N, C_in, P] → features [N, C, P], addition to RGB [N, 3, P]."""

    def __init__(self, widths: Sequence[int], w_dim: int) -> None:
        super().__init__()
        self.fc0 = ModulatedLayer(widths[0], widths[1], w_dim)
        self.fc1 = ModulatedLayer(widths[1], widths[2], w_dim)
        self.to_rgb = ModulatedOutputLayer(widths[2], RGB, w_dim)

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fc1(self.fc0(x, w), w)  # [N, C, P]
        return x, self.to_rgb(x, w)


class SynthesisNetwork(nn.Module):
    """Styles and positions → lines of rows and columns → pixels."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.input = FourierInput(channels[0], config.thickness, config.w_dim, config.bandwidth)
        self.blocks = nn.ModuleList(
            Block(c_in, c, config.w_dim) for c_in, c in zip((None, *channels), channels, strict=False)
        )
        self.decoders = nn.ModuleList(Decoder() for _ in range(config.decoder_count))
        self.to_rgb = PixelFullyConnectedLayer(FEATURES, RGB)
        self.refinements = nn.ModuleList(Refinement(widths, config.w_dim) for widths in REFINEMENT_WIDTHS)

    def lines(self, ws: Tensor, positions: Tensor, axis: int) -> Tensor:
        """The line bundles of one axis.

        Args:
            ws: styles [N, num_ws, w_dim].
            positions: network coordinates u in float64, [L], or [N, L] of each image; training images cover 0 … 1.
            axis: ROWS or COLUMNS.

        Returns:
            [N, bundles, 32, L, D], scaled by √½.
        """
        x = self.input(positions, ws[:, 0], axis)  # [N, C, L, D]
        shape = x.shape[2:]
        x = x.flatten(2)  # [N, C, L·D]
        running: Tensor | None = None
        bundles = []
        for k, block in enumerate(self.blocks):
            # Style indices of the original: blocks 0 and 1 begin at 1, each later one two further.
            x, addition = block(x, ws[:, max(1, 2 * k - 1) :])  # [N, C_k, L·D], [N, 32, L·D]
            if addition is not None:
                running = addition if running is None else running + addition
                bundles.append(running)
        kept = torch.stack(bundles[-self.config.bundles :], dim=1)  # [N, bundles, 32, L·D]
        return kept.reshape(*kept.shape[:3], *shape) * math.sqrt(0.5)

    def pixels(self, ws: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """RGB of every pair of a row and a column.

        Args:
            ws: styles [N, num_ws, w_dim]; the last one modulates the refinement.
            rows: line bundles [N, bundles, 32, H, D] of :meth:`lines`.
            columns: line bundles [N, bundles, 32, W, D].

        Returns:
            [N, 3, H, W], about −1 … 1.
        """
        height, width = rows.shape[3], columns.shape[3]
        g = self.fuse(rows, columns)  # [N, 32, P]
        return self.refine(g, self.to_rgb(g), ws[:, -1]).reshape(-1, RGB, height, width)

    def fuse(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Layer-wise fusion of the bundles' products: features G_K [N, 32, P]; arguments as for :meth:`pixels`.

        F_k[y, x] = Σ_d row_k[y, d] · column_k[x, d]
        G_k = decoder_k(G_{k−1} + F_k), or G_{k−1} + F_k without decoders
        """
        g = torch.zeros((), dtype=rows.dtype, device=rows.device)
        for k in range(self.config.bundles):
            product = rows[:, k] @ columns[:, k].transpose(2, 3)  # F_k [N, 32, H, W]
            g = g + product.flatten(2)  # [N, 32, P]
            if self.decoders:
                g = self.decoders[k](g)
        return g

    def refine(self, g: Tensor, rgb: Tensor, w: Tensor) -> Tensor:
        """Add to rgb [N, 3, P] what the refinement makes of the features g [N, 32, P] under w [N, w_dim]."""
        for refinement in self.refinements:
            g, addition = refinement(g, w)  # [N, C, P], [N, 3, P]
            rgb = rgb + addition
        return rgb

    def forward(self, ws: Tensor, row_positions: Tensor, column_positions: Tensor) -> Tensor:
        """ws [N, num_ws, w_dim], positions [H] and [W] → images [N, 3, H, W]."""
        rows = self.lines(ws, row_positions, ROWS)  # [N, bundles, 32, H, D]
        columns = self.lines(ws, column_positions, COLUMNS)  # [N, bundles, 32, W, D]
        return self.pixels(ws, rows, columns)


class Generator(nn.Module):
    """Mapping and synthesis networks. Parameters are float32, initialised as in the original code."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)

    def forward(self, z: Tensor, label: Tensor | None = None, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """Images at the training resolution, from corner to corner.

        Args:
            z: [N, z_dim].
            label: one-hot classes [N, classes]; required by conditional networks.
            psi, cutoff: truncation of the first ``cutoff`` styles (default: all) towards the mean.

        Returns:
            [N, 3, R, R], about −1 … 1.
        """
        ws = self.mapping.truncate(self.mapping(z, label), self.config.num_ws, psi, cutoff)  # [N, num_ws, w_dim]
        positions = torch.linspace(0.0, 1.0, self.config.resolution, dtype=torch.float64, device=z.device)
        image: Tensor = self.synthesis(ws, positions, positions)
        return image
