"""Zero-centred gradient penalty (Mescheder et al. 2018): R1 on real pictures, R2 on drawn ones."""

import torch
from torch import Tensor


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """½·‖∂D/∂image‖², mean over [N]. ``images`` [N, 3, H, W] must require gradients; logits [N]."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()
