"""The distance between pictures that a projection minimises. Needs no downloaded weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 5


def pyramid_loss(difference: Tensor, known: Tensor) -> Tensor:
    """Mean absolute difference of colours and of gradients, summed over a pyramid of box averages.

    Args:
        difference: rendered minus wanted picture [1, 3, H, W].
        known: weight of each pixel [1, 1, H, W].
    """
    difference, total = difference * known, torch.zeros((), device=difference.device)
    for level in range(LEVELS):
        weight = known.sum().clamp_min(1e-6) * difference.shape[1]
        vertical = (difference[:, :, 1:] - difference[:, :, :-1]) * known[:, :, 1:] * known[:, :, :-1]
        horizontal = (difference[..., 1:] - difference[..., :-1]) * known[..., 1:] * known[..., :-1]
        total = total + (difference.abs().sum() + vertical.abs().sum() + horizontal.abs().sum()) / weight
        if level + 1 < LEVELS:
            if min(difference.shape[2:]) < 4:
                break
            difference, known = F.avg_pool2d(difference, 2), F.avg_pool2d(known, 2)
    return total
