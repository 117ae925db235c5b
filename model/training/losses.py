"""The adversarial losses of StyleGAN2."""

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss, −log σ(D(fake)), mean over [N] (Goodfellow et al. 2014)."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(D(real)) − log(1 − σ(D(fake))), mean over [N]."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """½·‖∂D/∂image‖², mean over [N] (Mescheder et al. 2018). ``images`` [N, 3, H, W] must require gradients."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()
