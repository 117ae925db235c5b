"""The relativistic pairing loss of R3GAN (Huang et al. 2024, arXiv:2501.05441; Jolicoeur-Martineau 2018).

A drawn picture is judged against a real one, so that the drawn ones cannot all gather on one mode. It converges only
with both penalties, R1 on real and R2 on drawn pictures.
"""

import torch.nn.functional as F
from torch import Tensor


def generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(D(fake) − D(real)), mean over the pairs [N]."""
    return F.softplus(real_logits - fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(D(real) − D(fake)), mean over the pairs [N]."""
    return F.softplus(fake_logits - real_logits).mean()
