"""Losses and penalties: values by hand, and second derivatives against finite differences and double backward."""

import math

import pytest
import torch
from torch import Tensor

from model.config import GeneratorConfig
from model.generator import Generator
from model.training.augment.ada import NUMBERS, ada
from model.training.discriminator import Discriminator
from model.training.losses import path_length, r3gan, stylegan2
from model.training.losses.gradient_penalty import gradient_penalty
from model.training.synthesis import TrainingSynthesis


def test_losses_of_an_undecided_discriminator() -> None:
    undecided = torch.zeros(5)
    assert stylegan2.generator_loss(undecided).item() == pytest.approx(math.log(2))
    assert stylegan2.discriminator_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    assert r3gan.generator_loss(undecided, undecided).item() == pytest.approx(math.log(2))
    assert r3gan.discriminator_loss(undecided, undecided).item() == pytest.approx(math.log(2))


def test_losses_reward_the_right_side() -> None:
    high, low = torch.full((3,), 4.0), torch.full((3,), -4.0)
    assert stylegan2.generator_loss(high).item() == pytest.approx(math.log1p(math.exp(-4)))
    assert stylegan2.discriminator_loss(high, low) < stylegan2.discriminator_loss(low, high)
    assert r3gan.discriminator_loss(high, low).item() == pytest.approx(math.log1p(math.exp(-8)), rel=1e-4)
    assert r3gan.generator_loss(high, low).item() == pytest.approx(math.log1p(math.exp(8)))


def test_the_relativistic_loss_sees_differences_alone() -> None:
    real, fake = torch.randn(4), torch.randn(4)
    torch.testing.assert_close(r3gan.discriminator_loss(real + 7, fake + 7), r3gan.discriminator_loss(real, fake))


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_weight() -> None:
    weight = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    images = torch.randn(6, 3, 4, 4, requires_grad=True)
    penalty = gradient_penalty(images, (images * weight).sum(dim=(1, 2, 3)))
    expected = 0.5 * weight.detach().square().sum()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, weight.detach())


@pytest.mark.parametrize("augmented", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_penaltys_gradient_is_that_of_finite_differences(augmented: bool) -> None:
    """Of a whole discriminator with augmented images, as in a step."""
    torch.manual_seed(0)
    discriminator = Discriminator(8, 64, 8, minibatch_group=2).double()
    numbers = torch.rand(4, NUMBERS, dtype=torch.float64)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64).requires_grad_()

    def penalty() -> Tensor:
        return gradient_penalty(images, discriminator(ada(images, numbers, 0.9) if augmented else images))

    parameters = list(discriminator.parameters())
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        step = 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
            values.append(penalty().item())
            with torch.no_grad():
                parameter.sub_(sign * step * direction)
        measured = (values[0] - values[1]) / (2 * step)
        expected = 0.0 if gradient is None else (gradient * direction).sum().item()
        assert expected == pytest.approx(measured, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("fusion", "decoders", "chunk_pixels"),
    [
        ("layerwise", True, 3 * 16 * 4),
        pytest.param("layerwise", True, 0, marks=pytest.mark.slow),
        pytest.param("last", False, 3 * 16 * 2, marks=pytest.mark.slow),
    ],
)
def test_path_length_has_the_gradient_of_plain_double_backward(fusion: str, decoders: bool, chunk_pixels: int) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(
        16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=128, channel_max=16, thickness=3,
        decoders=decoders, fusion=fusion,  # type: ignore[arg-type]
    )  # fmt: skip
    generator = Generator(config).double()
    z, noise = torch.randn(3, 8).double(), torch.randn(3, 3, 16, 16).double()
    mean_length = torch.tensor(0.3, dtype=torch.float64)

    def spread() -> Tensor:
        return generator.mapping.truncate(generator.mapping(z), config.num_ws)

    ws = spread()
    positions = torch.linspace(0, 1, 16, dtype=torch.float64)
    weighted = generator.synthesis(ws, positions, positions) * noise / 16
    (gradient,) = torch.autograd.grad(weighted.sum(), ws, create_graph=True)
    lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
    plain = (lengths - mean_length).square().mean()
    expected = torch.autograd.grad(plain, list(generator.parameters()), allow_unused=True)

    synthesize = TrainingSynthesis(generator.synthesis, "fp32", chunk_pixels)
    ws = spread()
    gradient = path_length.path_gradient(synthesize, ws, noise)
    penalty, direction = path_length.path_penalty(gradient, mean_length, count=3)
    surrogate = path_length.path_surrogate(synthesize, ws, noise, direction)
    found = torch.autograd.grad(surrogate, list(generator.parameters()), allow_unused=True)
    assert penalty.item() == pytest.approx(plain.item(), rel=1e-10)
    for (name, _), a, b in zip(generator.named_parameters(), found, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12 + 1e-9 * b.abs().max().item())
