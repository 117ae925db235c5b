"""Differentiable augmentation (DiffAugment, Zhao et al. 2020, arXiv:2006.10738): color, translation and cutout.

Real and generated images are augmented before the discriminator in both its own and the generator's update
(section 3.2), so that it cannot memorize a small data set and the augmentations do not leak into the generated images.

All functions are deterministic in their random numbers and treat every image on its own.
"""

import torch
from torch import Tensor

NUMBERS = 7
"""Uniform random numbers in [0, 1) for one image: 3 for color, 2 for the translation, 2 for the cutout."""

TRANSLATION = 1 / 8
"""Maximum translation, relative to the side."""

CUTOUT = 1 / 2
"""Side of the gray square, relative to the image's."""


def diffaugment(images: Tensor, numbers: Tensor) -> Tensor:
    """Augments images [N, 3, H, W] in −1 … 1 by ``numbers`` [N, NUMBERS], uniform in [0, 1)."""
    colors, translations, positions = torch.split(numbers, [3, 2, 2], dim=1)
    images = change_color(images, colors)  # [N, 3, H, W]
    images = translate(images, translations)  # [N, 3, H, W]
    return cutout(images, positions)


def change_color(images: Tensor, numbers: Tensor) -> Tensor:
    """Brightness ± ½, saturation × 0 … 2 and contrast × ½ … 1½, by ``numbers`` [N, 3]."""
    brightness, saturation, contrast = numbers.to(images.dtype)[..., None, None, None].unbind(1)  # [N, 1, 1, 1]
    images = images + (brightness - 0.5)
    gray = images.mean(dim=1, keepdim=True)  # [N, 1, H, W]
    images = gray + (images - gray) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    return mean + (images - mean) * (contrast + 0.5)


def translate(images: Tensor, numbers: Tensor) -> Tensor:
    """Moves images by up to ⅛ of each side, by ``numbers`` [N, 2] for height and width; fills with mid-gray."""
    n, _, h, w = images.shape
    dy, dx = (
        _integers(number, -round(side * TRANSLATION), round(side * TRANSLATION))
        for number, side in zip(numbers.unbind(1), (h, w), strict=True)
    )
    rows = torch.arange(h, device=images.device)[None, :] + dy[:, None]  # [N, H]
    columns = torch.arange(w, device=images.device)[None, :] + dx[:, None]  # [N, W]
    row_mask, column_mask = (rows >= 0) & (rows < h), (columns >= 0) & (columns < w)  # [N, H], [N, W]
    mask = row_mask[:, None, :, None] & column_mask[:, None, None, :]  # [N, 1, H, W]
    index = torch.arange(n, device=images.device)[:, None, None]
    rows, columns = rows.clamp(0, h - 1)[:, :, None], columns.clamp(0, w - 1)[:, None, :]
    moved = images.permute(0, 2, 3, 1)[index, rows, columns]  # [N, H, W, 3]
    return moved.permute(0, 3, 1, 2) * mask


def cutout(images: Tensor, numbers: Tensor) -> Tensor:
    """Paints a mid-gray square of half the side at a position from ``numbers`` [N, 2]; it may extend over the edge."""
    outside = []
    for number, side in zip(numbers.unbind(1), images.shape[2:], strict=True):
        size = round(side * CUTOUT)
        start = _integers(number, -(size // 2), side - (size + 1) // 2)[:, None]
        index = torch.arange(side, device=images.device)[None, :]
        outside.append((index < start) | (index >= start + size))  # [N, H] or [N, W]
    keep = outside[0][:, None, :, None] | outside[1][:, None, None, :]  # [N, 1, H, W]
    return images * keep


def _integers(numbers: Tensor, low: int, high: int) -> Tensor:
    """Integers [N] from ``low`` to ``high``, both included, from ``numbers`` [N] in [0, 1)."""
    return low + (numbers * (high - low + 1)).long()
