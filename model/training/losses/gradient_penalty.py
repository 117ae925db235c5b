"""Zero-centered gradient penalty (Mescheder et al. 2018, arXiv:1801.04406, eq. 9): R1 on real, R2 on fake images."""

import torch
from torch import Tensor


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """½·‖∂D/∂image‖², mean over images [N, 3, H, W], which must require gradients, with logits [N]."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)  # [N, 3, H, W]
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()
