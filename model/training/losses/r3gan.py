"""Relativistic pairing loss of R3GAN (Huang et al. 2024, arXiv:2501.05441, section 2; Jolicoeur-Martineau 2018).

Each generated image is compared with a real one, which counters mode dropping. The loss converges only with both
penalties, R1 on real and R2 on generated images.
"""

import torch.nn.functional as F
from torch import Tensor


def generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(D(fake) − D(real)), mean over the pairs [N]."""
    return F.softplus(real_logits - fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(D(real) − D(fake)), mean over the pairs [N]."""
    return F.softplus(fake_logits - real_logits).mean()
