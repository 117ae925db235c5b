"""Losses and penalties against values worked out by hand."""

import math

import pytest
import torch

from model.training.losses import discriminator_loss, generator_loss, r1_penalty


def test_losses_of_an_undecided_discriminator() -> None:
    undecided = torch.zeros(5)
    assert generator_loss(undecided).item() == pytest.approx(math.log(2))
    assert discriminator_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))


def test_losses_reward_the_right_side() -> None:
    high, low = torch.full((3,), 4.0), torch.full((3,), -4.0)
    assert generator_loss(high).item() == pytest.approx(math.log1p(math.exp(-4)))
    assert discriminator_loss(high, low) < discriminator_loss(low, high)


def test_r1_of_a_linear_discriminator_is_half_its_squared_weight() -> None:
    weight = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    images = torch.randn(6, 3, 4, 4, requires_grad=True)
    penalty = r1_penalty(images, (images * weight).sum(dim=(1, 2, 3)))
    expected = 0.5 * weight.detach().square().sum()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, weight.detach())
