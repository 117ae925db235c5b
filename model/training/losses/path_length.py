"""Path length regularization (Karras et al. 2020, arXiv:1912.04958, eq. 4): E (‖Jᵀy‖ − a)².

J is the Jacobian of the image with respect to the styles, y normal noise of variance 1 / (H·W) and a the running mean
of the lengths ‖Jᵀy‖. A step of fixed size in w then changes every image by the same amount.

The penalty P is a function of the gradient g = Jᵀy, so ∂P/∂θ = ⟨∂P/∂g, ∂g/∂θ⟩. Instead of differentiating g a second
time, which would keep all activations, ∂P/∂g is held constant and ⟨∂P/∂g, Jᵀy⟩ = ⟨J ∂P/∂g, y⟩ is computed in
forward mode and differentiated once.
"""

import math

import torch
from torch import Tensor

from model.training.synthesis import TrainingSynthesis

BATCH_SHRINK = 2
"""The penalty is computed for batch / BATCH_SHRINK images (original ``pl_batch_shrink``)."""

DECAY = 0.01
"""Weight of a new length in the running mean (original ``pl_decay``)."""


def path_gradient(synthesize: TrainingSynthesis, ws: Tensor, noise: Tensor) -> Tensor:
    """g = Jᵀy: the gradient of Σ y · images with respect to the styles.

    Args:
        ws: [N, num_ws, w_dim].
        noise: standard normal numbers [N, 3, R, R].

    Returns:
        [N, num_ws, w_dim], without a graph.
    """
    ws = ws.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad((synthesize(ws) * scale_noise(noise)).sum(), ws)
    return gradient


def path_lengths(gradient: Tensor) -> Tensor:
    """‖Jᵀy‖ of each image: root of the mean over layers, [N, num_ws, w_dim] → [N]."""
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_penalty(gradient: Tensor, mean_length: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """P = Σ (‖g‖ − a)² / count, where ``count`` is the number of images of all microbatches.

    Returns:
        P, and ∂P/∂g [N, num_ws, w_dim]; both without a graph.
    """
    gradient = gradient.detach().requires_grad_(True)
    penalty = (path_lengths(gradient) - mean_length).square().sum() / count
    (direction,) = torch.autograd.grad(penalty, gradient)
    return penalty.detach(), direction


def path_surrogate(synthesize: TrainingSynthesis, ws: Tensor, noise: Tensor, direction: Tensor) -> Tensor:
    """⟨direction, Jᵀy⟩: a scalar whose gradient, with ``direction`` = ∂P/∂g held constant, is that of the penalty."""
    return synthesize.derivative(ws, direction, scale_noise(noise))


def scale_noise(noise: Tensor) -> Tensor:
    """y: noise [N, 3, H, W] scaled to variance 1 / (H·W)."""
    return noise / math.sqrt(noise.shape[2] * noise.shape[3])
