"""The residual discriminator of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), from operators that can be
differentiated twice."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import RGB
from model.generator import FullyConnectedLayer, lrelu, normalize_second_moment

FINAL_RESOLUTION = 4

HALF_BLOCKS = 4
"""Blocks, counted from the input, that run in fp16 if ``half`` (original ``num_fp16_res``)."""

HALF_CLAMP = 256.0
"""Bound of the activations in fp16 (original ``conv_clamp``)."""


class ConvLayer(nn.Module):
    """Convolution with equalized learning rate, bias and leaky ReLU: [N, C_in, H, W] → [N, C_out, H, W].

    With ``down``, → [N, C_out, H/2, W/2] after a [1, 3, 3, 1] low-pass filter. With ``linear``, neither bias nor
    activation. In fp16 the result is clamped so that it does not overflow.
    """

    low_pass: Tensor

    def __init__(self, c_in: int, c_out: int, kernel: int, *, down: bool = False, linear: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = None if linear else nn.Parameter(torch.zeros(c_out))
        self.gain = 1.0 if linear else math.sqrt(2.0)  # of the activation; applied to weight and bias, which are small
        self.weight_gain = self.gain / math.sqrt(c_in * kernel * kernel)
        self.down = down
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8  # StyleGAN2's resampling filter
        self.register_buffer("low_pass", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return self._convolve(x, None)
        x = F.leaky_relu_(self._convolve(x, self.bias * self.gain), 0.2)  # [N, C_out, H, W]
        return x.clamp(-HALF_CLAMP, HALF_CLAMP) if x.dtype == torch.float16 else x

    def _convolve(self, x: Tensor, bias: Tensor | None) -> Tensor:
        kernel = self.weight.shape[-1]
        weight = self.weight * self.weight_gain
        if not self.down:
            return F.conv2d(x, weight, bias, padding=kernel // 2)
        if kernel == 1:
            x = low_pass(x, self.low_pass, padding=1, stride=2)  # [N, C_in, H/2, W/2]
            return F.conv2d(x, weight, bias)
        # Padding 2 instead of 1 for the 3×3 kernel that follows.
        x = low_pass(x, self.low_pass, padding=2, stride=1)  # [N, C_in, H + 1, W + 1]
        return F.conv2d(x, weight, bias, stride=2)


class _LowPass(torch.autograd.Function):
    """Filters each channel, or applies the transpose of that.

    The filter is linear, so its derivative is its transpose, whose derivative is the filter. torch would compute the
    second derivative of a convolution with groups group by group, in as many launches as there are channels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, padding: int, stride: int, transpose: bool) -> Tensor:
        ctx.save_for_backward(taps)
        ctx.options = padding, stride, transpose
        return _convolve_channels(F.conv_transpose2d if transpose else F.conv2d, x, taps, padding, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        padding, stride, transpose = ctx.options
        result: Tensor = _LowPass.apply(gradients[0], *ctx.saved_tensors, padding, stride, not transpose)  # type: ignore[no-untyped-call]
        return result, None, None, None, None


def low_pass(x: Tensor, taps: Tensor, padding: int, stride: int) -> Tensor:
    """Filters each channel of x [N, C, H, W] with taps [K, K]. Can be differentiated any number of times."""
    if torch.compiler.is_compiling():  # a pass that is not differentiated twice
        return _convolve_channels(F.conv2d, x, taps, padding, stride)
    result: Tensor = _LowPass.apply(x, taps, padding, stride, False)  # type: ignore[no-untyped-call]
    return result


def _convolve_channels(function: Callable[..., Tensor], x: Tensor, taps: Tensor, padding: int, stride: int) -> Tensor:
    channels, dtype = x.shape[1], x.dtype
    if function is F.conv_transpose2d and x.device.type == "cpu":
        x = x.to(torch.promote_types(dtype, torch.float32))  # in bf16 it is up to a hundred times slower
    weight = taps.to(x.dtype).expand(channels, 1, *taps.shape)
    return function(x, weight, padding=padding, stride=stride, groups=channels).to(dtype)


class ResidualBlock(nn.Module):
    """[N, C_in, H, W] → [N, C_out, H/2, W/2]: two 3×3 layers and a 1×1 shortcut, summed and scaled by √½."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv0 = ConvLayer(c_in, c_in, 3)
        self.conv1 = ConvLayer(c_in, c_out, 3, down=True)
        self.shortcut = ConvLayer(c_in, c_out, 1, down=True, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1(self.conv0(x))  # [N, C_out, H/2, W/2]
        shortcut: Tensor = self.shortcut(x)  # [N, C_out, H/2, W/2]
        return (y + shortcut) * math.sqrt(0.5)


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Appends the minibatch standard deviation as a channel: [N, C, H, W] → [N, C + 1, H, W].

    The standard deviation over each group of images, averaged over channels and pixels (Karras et al. 2018,
    arXiv:1710.10196, section 3). As in StyleGAN2, the images of a group are N/group apart.
    """
    n, c, h, w = x.shape
    group = math.gcd(group, n)
    y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, n // group, c, h, w)
    std = (y.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N/group]
    channel = std.repeat(group)[:, None, None, None].expand(n, 1, h, w)
    return torch.cat([x, channel.to(x.dtype)], dim=1)


class ClassEmbedding(nn.Module):
    """One-hot classes [N, classes] → the vector [N, C] that a conditional discriminator projects its features on."""

    LAYERS = 8  # as in the mapping network of StyleGAN2-ADA's discriminator

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.embed = FullyConnectedLayer(classes, channels)
        self.layers = nn.ModuleList(
            FullyConnectedLayer(channels, channels, multiplier=0.01) for _ in range(self.LAYERS)
        )

    def forward(self, label: Tensor) -> Tensor:
        x = normalize_second_moment(self.embed(label))  # [N, C]
        for layer in self.layers:
            x = lrelu(layer(x))
        return x


class PlaceEmbedding(nn.Module):
    """Places [N, 3] of patches, log₂ of the scale and the centre → the vector [N, C] that features are projected on.

    Zero at first, so that a discriminator of whole images goes on as it is.
    """

    OCTAVES = 4
    """Fourier features per number: half a cycle over its range, 1, 2 and 4 cycles."""

    LOG_RANGE = 8.0
    """Range of log₂ of the scale; that of the centre is 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = FullyConnectedLayer(3 * 2 * self.OCTAVES, channels)
        self.out = FullyConnectedLayer(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, place: Tensor) -> Tensor:
        place = place / place.new_tensor([self.LOG_RANGE, 1.0, 1.0])  # [N, 3]
        frequencies = math.pi * 2.0 ** torch.arange(self.OCTAVES, device=place.device)
        phase = (place[:, :, None] * frequencies).flatten(1)  # [N, 3·OCTAVES]
        features = torch.cat([phase.sin(), phase.cos()], dim=1).to(self.hidden.weight.dtype)
        embedding: Tensor = self.out(lrelu(self.hidden(features)))
        return embedding


class Discriminator(nn.Module):
    """Images [N, 3, R, R] in −1 … 1 and, if conditional, one-hot classes [N, classes] → logits [N], positive for real.

    With ``patches``, images are patches at places [N, 3] (see :class:`PlaceEmbedding`), on which features are projected
    as on classes. With ``half``, the four highest resolutions are computed in fp16. The logits have the dtype of the
    weights.
    """

    def __init__(
        self,
        resolution: int,
        channel_base: int,
        channel_max: int,
        classes: int = 0,
        minibatch_group: int = 4,
        patches: bool = False,
    ) -> None:
        super().__init__()
        self.minibatch_group = minibatch_group
        resolutions = [resolution >> i for i in range(int(math.log2(resolution)) - 1)]  # R … 4
        channels = [min(channel_base // res, channel_max) for res in resolutions]
        self.from_rgb = ConvLayer(RGB, channels[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(channels))
        last = channels[-1]
        self.conv = ConvLayer(last + 1, last, 3)
        self.dense = FullyConnectedLayer(last * FINAL_RESOLUTION**2, last)
        self.out = FullyConnectedLayer(last, last if classes else 1)
        self.classes = ClassEmbedding(classes, last) if classes else None
        self.place = PlaceEmbedding(last) if patches else None

    def layers(self) -> list[nn.Module]:
        """The layers that can be frozen, from the input on, as the original counts them."""
        return [self.from_rgb, *(layer for block in self.blocks for layer in block.children())]

    def forward(
        self, images: Tensor, label: Tensor | None = None, place: Tensor | None = None, half: bool = False
    ) -> Tensor:
        with torch.autocast(images.device.type, torch.float16) if half else nullcontext():
            x: Tensor = self.from_rgb(images.contiguous(memory_format=torch.channels_last))  # [N, C, R, R]
            for block in self.blocks[:HALF_BLOCKS]:
                x = block(x)  # [N, C, R/2, R/2] …
        if half:
            x = x.float()
        for block in self.blocks[HALF_BLOCKS:]:
            x = block(x)  # … [N, C, 4, 4]
        x = minibatch_std(x, self.minibatch_group)  # [N, C + 1, 4, 4]
        x = self.conv(x)  # [N, C, 4, 4]
        features = lrelu(self.dense(x.flatten(1)))  # [N, C]
        x = self.out(features).to(self.out.weight.dtype)  # [N, 1], or [N, C] if conditional
        if self.classes is None:
            logits = x[:, 0]
        elif label is None:
            raise ValueError("a conditional discriminator requires a label")
        else:
            logits = _project(x, self.classes(label))
        if self.place is None:
            return logits
        if place is None:
            raise ValueError("a discriminator of patches requires their places")
        return logits + _project(features.to(logits.dtype), self.place(place))


def _project(features: Tensor, embedding: Tensor) -> Tensor:
    """Features and embeddings [N, C] → [N] (Miyato and Koyama 2018, arXiv:1802.05637)."""
    return (features * embedding).sum(dim=1) / math.sqrt(features.shape[1])
