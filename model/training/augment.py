"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738): colour, shift and cut-out.

Real and drawn pictures go through the same random changes before the discriminator sees them. It therefore cannot
memorise a small data set, and the generator, which is trained through the changes, does not learn them.
"""

import torch
from torch import Tensor

SHIFT = 1 / 8
"""Largest shift, as a part of the side."""

CUTOUT = 1 / 2
"""Side of the grey square, as a part of the picture's."""


def diffaugment(x: Tensor) -> Tensor:
    """Every picture of [N, 3, H, W] in −1 … 1, changed at random."""
    return cutout(shift(colour(x)))


def colour(x: Tensor) -> Tensor:
    """Brightness ± ½, saturation × 0 … 2, contrast × ½ … 1½."""
    brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device, dtype=x.dtype).unbind()
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def shift(x: Tensor) -> Tensor:
    """Moves by up to ⅛ of each side; what comes in is mid-grey."""
    n, _, h, w = x.shape
    dy, dx = (_random_integers(-round(side * SHIFT), round(side * SHIFT), n, x.device) for side in (h, w))
    rows = torch.arange(h, device=x.device)[None, :] + dy[:, None]  # [N, H]
    columns = torch.arange(w, device=x.device)[None, :] + dx[:, None]
    inside = ((rows >= 0) & (rows < h))[:, None, :, None] & ((columns >= 0) & (columns < w))[:, None, None, :]
    picture = torch.arange(n, device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[picture, rows.clamp(0, h - 1)[:, :, None], columns.clamp(0, w - 1)[:, None, :]]
    return moved.permute(0, 3, 1, 2) * inside


def cutout(x: Tensor) -> Tensor:
    """Paints a mid-grey square of half the side at a random place, which may reach over the edge."""
    n, _, h, w = x.shape
    outside = []
    for side in (h, w):
        size = round(side * CUTOUT)
        start = _random_integers(-(size // 2), side - (size + 1) // 2, n, x.device)[:, None]
        index = torch.arange(side, device=x.device)[None, :]
        outside.append((index < start) | (index >= start + size))
    keep = outside[0][:, None, :, None] | outside[1][:, None, None, :]
    return x * keep


def _random_integers(low: int, high: int, count: int, device: torch.device) -> Tensor:
    """[count] integers from ``low`` to ``high``, both included."""
    return torch.randint(low, high + 1, (count,), device=device)
