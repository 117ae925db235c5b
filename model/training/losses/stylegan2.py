"""Non-saturating adversarial loss (Goodfellow et al. 2014, arXiv:1406.2661, section 3), as in StyleGAN2."""

import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """−log σ(D(fake)), mean over [N]."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(D(real)) − log(1 − σ(D(fake))), mean over [N]."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
