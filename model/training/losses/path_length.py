"""Path length regularisation (Karras et al. 2020, arXiv:1912.04958, equation 4): a step in w shall change every
picture by the same amount.

For noise y of variance 1 / (H·W), the length is ‖Jᵀy‖, J being the derivative of the picture with respect to the
styles.
"""

import math

import torch
from torch import Tensor

from model.training.synthesis import TrainingSynthesis

BATCH_SHRINK = 2
"""The penalty is computed on this part of the batch (original ``pl_batch_shrink``)."""

DECAY = 0.01
"""Of the running mean of the lengths at every step (original ``pl_decay``)."""


def path_gradient(synthesize: TrainingSynthesis, ws: Tensor, noise: Tensor) -> Tensor:
    """Jᵀy: the gradient of Σ noise · pictures with respect to the styles.

    Args:
        ws: [N, num_ws, w_dim].
        noise: normal numbers [N, 3, R, R].

    Returns:
        [N, num_ws, w_dim], without a graph.
    """
    ws = ws.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad((synthesize(ws) * scale_noise(noise)).sum(), ws)
    return gradient


def path_lengths(gradient: Tensor) -> Tensor:
    """The length for each picture: over the layers' styles the root of the mean square, [N, num_ws, w_dim] → [N]."""
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_penalty(gradient: Tensor, mean_length: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(length − mean length)², summed over [N] and divided by ``count``, the pictures of all parts that add up.

    Returns:
        The penalty, and its derivative with respect to the gradient [N, num_ws, w_dim]; both without a graph.
    """
    gradient = gradient.detach().requires_grad_(True)
    penalty = (path_lengths(gradient) - mean_length).square().sum() / count
    (direction,) = torch.autograd.grad(penalty, gradient)
    return penalty.detach(), direction


def path_surrogate(synthesize: TrainingSynthesis, ws: Tensor, noise: Tensor, direction: Tensor) -> Tensor:
    """A scalar whose gradient is the penalty's: ⟨direction, Jᵀy⟩, as the derivative of the pictures along it.

    With the direction held constant it has, by the chain rule, the penalty's gradient with respect to all that Jᵀy
    depends on; its own value means nothing.
    """
    return synthesize.derivative(ws, direction, scale_noise(noise))


def scale_noise(noise: Tensor) -> Tensor:
    """Normal numbers [N, 3, H, W] of variance 1 / (H·W)."""
    return noise / math.sqrt(noise.shape[2] * noise.shape[3])
