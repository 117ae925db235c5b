"""The residual discriminator of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), in plain differentiable operators."""

import math
from contextlib import nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import RGB
from model.generator import Dense, lrelu, normalize_second_moment

FINAL_RESOLUTION = 4

HALF_BLOCKS = 4
"""Blocks, from the picture on, that compute in fp16 where that is asked for (original ``num_fp16_res``)."""

HALF_CLAMP = 256.0
"""Bound of a layer's output in fp16 (original ``conv_clamp``)."""


def activate(x: Tensor) -> Tensor:
    """lrelu, and in fp16 the bound that keeps it from overflowing."""
    x = lrelu(x)
    return x.clamp(-HALF_CLAMP, HALF_CLAMP) if x.dtype == torch.float16 else x


class Conv(nn.Module):
    """Convolution with equalised learning rate, optionally halving the resolution after a [1, 3, 3, 1] low-pass.

    [N, C_in, H, W] → [N, C_out, H, W], or [N, C_out, H/2, W/2] with ``down``.
    """

    low_pass: Tensor

    def __init__(self, c_in: int, c_out: int, kernel: int, *, down: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.gain = 1 / math.sqrt(c_in * kernel * kernel)
        self.down = down
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8  # StyleGAN2's resampling filter
        self.register_buffer("low_pass", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        weight = self.weight * self.gain
        if not self.down:
            return F.conv2d(x, weight, self.bias, padding=kernel // 2)
        channels = x.shape[1]
        low_pass = self.low_pass.to(x.dtype).expand(channels, 1, 4, 4)
        # The filter is centred between pixels, so a 3×3 kernel needs one more pixel on either side than a 1×1 one.
        if kernel == 1:
            return F.conv2d(F.conv2d(x, low_pass, padding=1, stride=2, groups=channels), weight, self.bias)
        return F.conv2d(F.conv2d(x, low_pass, padding=2, groups=channels), weight, self.bias, stride=2)


class ResidualBlock(nn.Module):
    """[N, C_in, H, W] → [N, C_out, H/2, W/2]: two 3×3 layers beside a 1×1 shortcut, summed and scaled by √½."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv0 = Conv(c_in, c_in, 3)
        self.conv1 = Conv(c_in, c_out, 3, down=True)
        self.shortcut = Conv(c_in, c_out, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.conv1(activate(self.conv0(x))))
        shortcut: Tensor = self.shortcut(x)
        return (y + shortcut) * math.sqrt(0.5)


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Appends a channel that tells how much the pictures of a group differ: [N, C, H, W] → [N, C + 1, H, W].

    Picture i is grouped with those i ± N/group apart; the standard deviation over the group is averaged over channels
    and pixels (Karras et al. 2018, with StyleGAN2's grouping).
    """
    n, c, h, w = x.shape
    group = math.gcd(group, n)
    y = x.to(torch.promote_types(x.dtype, torch.float32)).reshape(group, n // group, c, h, w)
    deviation = (y.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N / group]
    channel = deviation.repeat(group)[:, None, None, None].expand(n, 1, h, w)
    return torch.cat([x, channel.to(x.dtype)], dim=1)


class ClassEmbedding(nn.Module):
    """One-hot classes [N, classes] → the direction [N, C] on which a conditional discriminator projects."""

    LAYERS = 8  # as the mapping network of StyleGAN2-ADA's discriminator

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.embed = Dense(classes, channels)
        self.layers = nn.ModuleList(Dense(channels, channels, multiplier=0.01) for _ in range(self.LAYERS))

    def forward(self, label: Tensor) -> Tensor:
        x = normalize_second_moment(self.embed(label))
        for layer in self.layers:
            x = lrelu(layer(x))
        return x


class Discriminator(nn.Module):
    """Pictures [N, 3, R, R] in −1 … 1, and one-hot classes [N, classes] where it has classes → logits [N], real > 0.

    With ``half`` a call computes the four highest resolutions in fp16; the logits are in the weights' type.
    """

    def __init__(
        self, resolution: int, channel_base: int, channel_max: int, classes: int = 0, minibatch_group: int = 4
    ) -> None:
        super().__init__()
        self.minibatch_group = minibatch_group
        resolutions = [resolution >> i for i in range(int(math.log2(resolution)) - 1)]  # R … 4
        channels = [min(channel_base // res, channel_max) for res in resolutions]
        self.from_rgb = Conv(RGB, channels[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(channels))
        last = channels[-1]
        self.conv = Conv(last + 1, last, 3)
        self.dense = Dense(last * FINAL_RESOLUTION**2, last)
        self.out = Dense(last, last if classes else 1)
        self.classes = ClassEmbedding(classes, last) if classes else None

    def layers(self) -> list[nn.Module]:
        """The layers that can be frozen, from the picture on, as the original counts them."""
        return [self.from_rgb, *(layer for block in self.blocks for layer in block.children())]

    def forward(self, images: Tensor, label: Tensor | None = None, half: bool = False) -> Tensor:
        with torch.autocast(images.device.type, torch.float16) if half else nullcontext():
            x: Tensor = activate(self.from_rgb(images.contiguous(memory_format=torch.channels_last)))
            for block in self.blocks[:HALF_BLOCKS]:
                x = block(x)
        if half:
            x = x.float()
        for block in self.blocks[HALF_BLOCKS:]:
            x = block(x)
        x = lrelu(self.conv(minibatch_deviation(x, self.minibatch_group)))
        x = self.out(lrelu(self.dense(x.flatten(1)))).to(self.out.weight.dtype)
        if self.classes is None:
            return x[:, 0]
        if label is None:
            raise ValueError("a conditional discriminator needs a class for every picture")
        direction: Tensor = self.classes(label)
        return (x * direction).sum(dim=1) / math.sqrt(x.shape[1])
