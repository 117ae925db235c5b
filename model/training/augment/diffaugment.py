"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738): colour, shift and cut-out.

Real and drawn pictures go through the same random changes before the discriminator sees them. It therefore cannot
memorise a small data set, and the generator, which is trained through the changes, does not learn them.

Everything is a function of the random numbers that it is given, and of each picture alone.
"""

import torch
from torch import Tensor

NUMBERS = 7
"""Uniform random numbers in [0, 1) that one picture takes: 3 for colour, 2 for the shift, 2 for the cut-out."""

SHIFT = 1 / 8
"""Largest shift, as a part of the side."""

CUTOUT = 1 / 2
"""Side of the grey square, as a part of the picture's."""


def diffaugment(images: Tensor, numbers: Tensor) -> Tensor:
    """Every picture of [N, 3, H, W] in −1 … 1, changed by its row of ``numbers`` [N, NUMBERS] in [0, 1)."""
    colours, shifts, places = torch.split(numbers, [3, 2, 2], dim=1)
    return cutout(shift(colour(images, colours), shifts), places)


def colour(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness ± ½, saturation × 0 … 2, contrast × ½ … 1½, by ``numbers`` [N, 3] in this order."""
    brightness, saturation, contrast = numbers.to(images.dtype)[..., None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def shift(images: Tensor, numbers: Tensor) -> Tensor:
    """Moves by up to ⅛ of each side, by ``numbers`` [N, 2] for height and width; what comes in is mid-grey."""
    n, _, h, w = images.shape
    dy, dx = (
        _integers(number, -round(side * SHIFT), round(side * SHIFT))
        for number, side in zip(numbers.unbind(1), (h, w), strict=True)
    )
    rows = torch.arange(h, device=images.device)[None, :] + dy[:, None]  # [N, H]
    columns = torch.arange(w, device=images.device)[None, :] + dx[:, None]
    inside = ((rows >= 0) & (rows < h))[:, None, :, None] & ((columns >= 0) & (columns < w))[:, None, None, :]
    picture = torch.arange(n, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[picture, rows.clamp(0, h - 1)[:, :, None], columns.clamp(0, w - 1)[:, None, :]]
    return moved.permute(0, 3, 1, 2) * inside


def cutout(images: Tensor, numbers: Tensor) -> Tensor:
    """Paints a mid-grey square of half the side, which may reach over the edge, where ``numbers`` [N, 2] say."""
    outside = []
    for number, side in zip(numbers.unbind(1), images.shape[2:], strict=True):
        size = round(side * CUTOUT)
        start = _integers(number, -(size // 2), side - (size + 1) // 2)[:, None]
        index = torch.arange(side, device=images.device)[None, :]
        outside.append((index < start) | (index >= start + size))
    keep = outside[0][:, None, :, None] | outside[1][:, None, None, :]
    return images * keep


def _integers(numbers: Tensor, low: int, high: int) -> Tensor:
    """[N] integers from ``low`` to ``high``, both included, from ``numbers`` [N] in [0, 1)."""
    return low + (numbers * (high - low + 1)).long()
